"""Dynamic t-SNE, written from its paper as a baseline.

    C = sum_t KL(P_t | Q_t) + lambda / (2 N) sum_t sum_mates |y_i(t) - y_i'(t+1)|^2

P_t are the symmetric affinities of t-SNE at a fixed perplexity, Q_t those of the map.
It is minimized as openTSNE minimizes t-SNE: 250 epochs with P times 12, then 500, with
momentum .8, gains, and a rate of N / 12, from the pooled principal components.

Source: Rauber, Falcão & Telea (2016), "Visualizing time-dependent data using dynamic
t-SNE", equation 5; van der Maaten & Hinton (2008), JMLR 9, for t-SNE.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

EXAGGERATION, EXAGGERATED, EPOCHS = 12.0, 250, 500
MOMENTUM = 0.8
PERPLEXITY = 30.0  # neighbors that count for a row, at most a third of its slice
BISECTIONS = 50


def dynamic_tsne(
    slices: Sequence[np.ndarray],
    relations: Sequence[Mapping[int, int]],
    start: Sequence[np.ndarray],
    *,
    penalty: float = 0.1,
) -> list[np.ndarray]:
    """Returns the maps of a sequence.

    Args:
        slices: The data.
        relations: For each pair of consecutive slices {row of t: row of t+1}.
        start: A rough map for each slice.
        penalty: lambda, the paper's .1.
    """
    sizes = [len(rows) for rows in slices]
    width = max(sizes)
    affinities = np.zeros((len(slices), width, width), dtype=np.float32)
    maps = np.zeros((len(slices), width, 2), dtype=np.float32)
    mates = np.zeros((len(slices), width), dtype=np.int32)
    related = np.zeros((len(slices), width), dtype=bool)
    for t, (rows, rough) in enumerate(zip(slices, start, strict=True)):
        size = sizes[t]
        perplexity = min(PERPLEXITY, (size - 1) / 3)
        affinities[t, :size, :size] = _affinities(jnp.asarray(rows), perplexity)
        maps[t, :size] = rough
        if t < len(relations):
            pairs = np.array([*relations[t].items()], dtype=int).reshape(-1, 2)
            mates[t, pairs[:, 0]], related[t, pairs[:, 0]] = pairs[:, 1], True
    inside = np.arange(width) < np.array(sizes)[:, None]
    descended = _descend(
        *map(jnp.asarray, (maps, affinities, mates, related, inside)),
        jnp.asarray(penalty / width),
    )
    return [np.asarray(y)[:size] for y, size in zip(descended, sizes, strict=True)]


@jax.jit
def _affinities(
    rows: Float[Array, "points features"], perplexity: Float[Array, ""] | float
) -> Float[Array, "points points"]:
    """Returns P of t-SNE: p_ij = (p_j|i + p_i|j) / 2n, each row at the perplexity."""
    points = rows.shape[0]
    centered = rows - rows.mean(axis=0)
    norm = jnp.sum(centered**2, axis=1)
    squared = norm[:, None] + norm - 2 * centered @ centered.T
    squared = jnp.maximum(squared, 0) / jnp.maximum(squared.mean(), 1e-12)
    itself = jnp.eye(points, dtype=bool)

    def conditional(log_beta: Float[Array, "points"]) -> Float[Array, "points points"]:
        scores = jnp.where(itself, -jnp.inf, -jnp.exp(log_beta)[:, None] * squared)
        return jax.nn.softmax(scores, axis=1)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        p = conditional(middle)
        entropy = -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-30)), axis=1)
        wide = entropy > jnp.log(perplexity)
        return jnp.where(wide, middle, low), jnp.where(wide, high, middle)

    bounds = jnp.full(points, -10.0), jnp.full(points, 20.0)
    p = conditional(jax.lax.fori_loop(0, BISECTIONS, halve, bounds)[0])
    return (p + p.T) / (2 * points)


def _slice_gradient(
    y: Float[Array, "points 2"],
    p: Float[Array, "points points"],
    inside: Bool[Array, "points"],
) -> Float[Array, "points 2"]:
    """Returns 4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2)."""
    norm = jnp.sum(y**2, axis=1)
    near = 1 / (1 + jnp.maximum(norm[:, None] + norm - 2 * y @ y.T, 0))
    near = near * (inside[:, None] & inside) * (1 - jnp.eye(len(y)))
    weights = (p - near / jnp.sum(near)) * near
    return 4 * (weights.sum(axis=1)[:, None] * y - weights @ y)


@jax.jit
def _descend(
    maps: Float[Array, "slices points 2"],
    affinities: Float[Array, "slices points points"],
    mates: Int[Array, "slices points"],
    related: Bool[Array, "slices points"],
    inside: Bool[Array, "slices points"],
    pull: Float[Array, ""],
) -> Float[Array, "slices points 2"]:
    rate = jnp.maximum(maps.shape[1] / EXAGGERATION, 50.0)

    def apart(y: Array) -> Array:
        later = jnp.take_along_axis(jnp.roll(y, -1, axis=0), mates[..., None], axis=1)
        return pull / 2 * jnp.sum(related[..., None] * (y - later) ** 2)

    def epoch(i: Int[Array, ""], state: tuple[Array, ...]) -> tuple[Array, ...]:
        y, velocity, gains = state
        factor = jnp.where(i < EXAGGERATED, EXAGGERATION, 1.0)
        gradient = jax.lax.map(
            lambda arrays: _slice_gradient(arrays[0], factor * arrays[1], arrays[2]),
            (y, affinities, inside),
        )
        gradient = gradient + jax.grad(apart)(y)
        onward = jnp.sign(gradient) != jnp.sign(velocity)
        gains = jnp.maximum(jnp.where(onward, gains + 0.2, gains * 0.8), 0.01)
        velocity = MOMENTUM * velocity - rate * gains * gradient
        return y + velocity, velocity, gains

    start = maps, jnp.zeros_like(maps), jnp.ones_like(maps)
    return jax.lax.fori_loop(0, EXAGGERATED + EPOCHS, epoch, start)[0]
