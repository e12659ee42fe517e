import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_maps, make_data, make_relations, refused

from aljax import AlignmentConfig, Checkpoints, GraphConfig, LayoutConfig, fit
from aljax import checkpoints as module
from aljax.checkpoints import PATTERN, newest, packed_of, unpacked
from aljax.errors import InputError
from aljax.layout import ahead
from aljax.layout.optimize import init, run
from aljax.layout.sharding import VIRTUAL

EPOCHS = 60
ABOUT = {"data": "these"}


def lay_out(
    checkpoints=None, progress=None, *, data=None, seed=0, n_epochs=EPOCHS, devices=None
):
    return fit(
        data or make_data(),
        make_relations(),
        key=jax.random.key(seed),
        graph=GraphConfig(n_neighbors=6),
        layout=LayoutConfig(n_epochs=n_epochs),
        alignment=AlignmentConfig(0.1),
        progress=progress,
        checkpoints=checkpoints,
        devices=devices,
    )


def stop_at(epoch):
    def progress(state):
        if int(state.epoch) >= epoch:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def unbroken():
    return lay_out()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with the checkpoints of epochs 15 and 30."""
    folder = tmp_path_factory.mktemp("kept") / "maps"
    for epoch in (15, 30):
        kept = Checkpoints(folder, resume=epoch > 15, about=ABOUT)
        with pytest.raises(KeyboardInterrupt), kept:
            lay_out(kept, stop_at(epoch))
    return folder


@pytest.fixture
def folder(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "maps")


def go_on(folder, **settings):
    """The maps, and the epochs after which chunks ended."""
    seen = []
    with Checkpoints(folder, resume=True, about=ABOUT) as kept:
        maps = lay_out(kept, lambda state: seen.append(int(state.epoch)), **settings)
    return maps, seen


def assert_same(one, other):
    assert_same_maps(one.maps, other.maps)
    leaves = zip(*map(jax.tree.leaves, (one.history, other.history)), strict=True)
    assert all(np.array_equal(a, b) for a, b in leaves)


def names(folder):
    return sorted(one.name for one in folder.iterdir())


def test_what_goes_on_ends_with_the_bits_of_an_unbroken_layout(folder, unbroken):
    assert names(folder) == ["epoch_0000015", "epoch_0000030"]
    again, seen = go_on(folder)
    assert seen[0] > 30
    assert_same(again, unbroken)


def test_nothing_to_go_on_from_is_the_start(tmp_path, unbroken):
    again, seen = go_on(tmp_path / "none")
    assert seen[0] <= 3
    assert_same(again, unbroken)


# A chunk is a 20th of all epochs here, and ends what is due in it.
@pytest.mark.parametrize(
    ("often", "end", "kept"),
    [({"epochs": 7}, 30, [18, 27]), ({"seconds": 1e-9}, 12, [9, 12])],
)
def test_a_checkpoint_every_so_many_epochs_or_seconds(tmp_path, often, end, kept):
    checkpoints = Checkpoints(tmp_path, **often)

    def progress(state):
        checkpoints._settle()
        if int(state.epoch) == end:
            seen.extend(names(tmp_path))
            raise ValueError("stopped")

    seen: list[str] = []
    with pytest.raises(ValueError, match="stopped"), checkpoints:
        lay_out(checkpoints, progress)
    assert seen == [f"epoch_{epoch:07d}" for epoch in kept]
    assert names(tmp_path)[-1] == f"epoch_{end:07d}"  # whatever ended it
    whole = newest(tmp_path)
    assert whole is not None
    assert whole.path == checkpoints.last


def test_whatever_stands_there_at_any_moment_is_gone_on_from(tmp_path, unbroken):
    folder, moments = tmp_path / "maps", []

    def snapshot(state):
        moments.append(tmp_path / f"moment-{int(state.epoch)}")
        with suppress(OSError):  # a file is renamed while it is copied
            shutil.copytree(folder, moments[-1])

    with Checkpoints(folder, seconds=1e-9, about=ABOUT) as kept:
        lay_out(kept, snapshot)
    for moment in moments[::6]:
        with warnings.catch_warnings():  # of what is half written, if anything is
            warnings.simplefilter("ignore")
            assert_same(go_on(moment)[0], unbroken)


def truncate(file: Path):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def edit_about(file: Path):
    file.write_text(file.read_text().replace("these", "those"))


ABOUT_FILE = "about/metadata"


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_or_has_the_same_bits(folder, harm):
    path = folder / "epoch_0000030"
    before = newest(folder)
    assert before is not None
    passed_over = set()
    for file in [one for one in path.rglob("*") if one.is_file()]:
        content = file.read_bytes()
        if not content:
            continue
        harm(file)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            whole = newest(folder)
        file.write_bytes(content)
        assert whole is not None
        if whole.path == path:  # a file that nothing is read from
            assert not said
            np.testing.assert_array_equal(whole.state, before.state)
        else:
            assert whole.path.name == "epoch_0000015"
            assert len(said) == 1
            assert "epoch_0000030 is not a whole" in str(said[0].message)
            passed_over.add(file.relative_to(path).parts[:2])
    assert ("about", "metadata") in passed_over
    assert any(part[0] == "state" for part in passed_over)


def test_a_damaged_checkpoint_is_written_anew(folder, unbroken):
    edit_about(folder / "epoch_0000030" / ABOUT_FILE)
    with pytest.warns(UserWarning, match="its description is altered"):
        again, seen = go_on(folder)
    assert 15 < seen[0] < 30
    assert_same(again, unbroken)
    with (
        pytest.warns(UserWarning, match="is not a whole"),
        pytest.raises(KeyboardInterrupt),
        Checkpoints(folder, resume=True, about=ABOUT) as kept,
    ):
        lay_out(kept, stop_at(30))
    whole = newest(folder)
    assert whole is not None
    assert (whole.path.name, whole.of["data"]) == ("epoch_0000030", "these")


def test_damaged_ones_only_are_the_start(folder, unbroken):
    for path in folder.iterdir():
        (path / ABOUT_FILE).unlink()
    (folder / "epoch_0000040").write_text("no folder")
    with pytest.warns(UserWarning, match="is not a whole checkpoint"):
        again, seen = go_on(folder)
    assert seen[0] <= 3
    assert_same(again, unbroken)


def test_checkpoints_of_version_0_1_are_refused(tmp_path):
    (tmp_path / "epoch-0000030").mkdir()
    with pytest.raises(InputError) as refused:
        Checkpoints(tmp_path, resume=True)
    assert refused.value.name == "folder"
    assert "0.1" in refused.value.got


OTHER_DEVICES = """
import sys
sys.path.insert(0, {tests!r})
from test_checkpoints import ABOUT, Checkpoints, jax, lay_out, np
assert jax.device_count() == 2
with Checkpoints({folder!r}, resume=True, about=ABOUT) as kept:
    assert kept.last is None
    found = lay_out(kept, lambda state: print(int(state.epoch)), devices=2)
np.savez({maps!r}, *found.maps)
"""


@pytest.mark.slow
def test_a_layout_goes_on_on_another_number_of_devices(folder, unbroken, tmp_path):
    maps = tmp_path / "maps.npz"
    code = OTHER_DEVICES.format(
        tests=str(Path(__file__).parent), folder=str(folder), maps=str(maps)
    )
    env = {"PYTHONPATH": str(Path(__file__).parents[1]), "XLA_FLAGS": f"{VIRTUAL}=2"}
    child = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout.split()[0]) > 30
    with np.load(maps) as arrays:
        for ours, its in zip(arrays.values(), unbroken.maps, strict=True):
            assert np.abs(ours - its).mean() < 0.1  # sums are rounded in another order


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "key"),
        ({"n_epochs": 61}, "n_epochs"),
        ({"data": [one[::-1].copy() for one in make_data()]}, "problem"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused_by_name(folder, other, named):
    with refused("resume", "epoch_0000030", f"`{named}` is"):
        go_on(folder, **other)
    assert names(folder) == ["epoch_0000015", "epoch_0000030"]


def test_what_the_user_named_is_compared_first(folder):
    kept = Checkpoints(folder, resume=True, about={"data": "others"})
    with refused("resume", "layout: `data` is others and was these"):
        lay_out(kept, seed=1)


def test_other_versions_are_said(folder, monkeypatch):
    versions = module.versions() | {"jax": "0.1"}
    monkeypatch.setattr(module, "versions", lambda: versions)
    with pytest.warns(UserWarning, match=r"`jax` is 0\.1 and was"):
        go_on(folder)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "name", "got"),
    [
        ({"epochs": 0}, "epochs", "0"),
        ({"epochs": 1.5}, "epochs", "1.5"),
        ({"seconds": -1}, "seconds", "-1"),
        ({"seconds": "often"}, "seconds", "often"),
        ({}, "folder", "holds checkpoints"),
    ],
)
def test_bad_input_is_named(stopped, options, name, got):
    with pytest.raises(InputError) as refused:
        Checkpoints(stopped, **options)
    assert refused.value.name == name
    assert got in refused.value.got


def test_without_orbax_the_command_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with refused("folder", "pip install 'aljax[checkpoints]'"):
        Checkpoints(tmp_path)


def test_a_full_disk_costs_the_checkpoint_and_not_the_layout(
    folder, unbroken, monkeypatch
):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with (
        pytest.warns(UserWarning, match="cannot be written .*No space left on device"),
        Checkpoints(folder, epochs=20, resume=True, about=ABOUT) as kept,
    ):
        full = lay_out(kept)
    assert_same(full, unbroken)
    assert names(folder) == ["epoch_0000015", "epoch_0000030"]
    monkeypatch.undo()
    assert_same(go_on(folder)[0], unbroken)


def test_maps_that_are_not_finite_are_not_kept(folder, monkeypatch):
    kept = Checkpoints(folder, resume=True, about=ABOUT)
    keep = kept.keep
    monkeypatch.setattr(
        kept, "keep", lambda state: keep(replace(state, maps=np.nan * state.maps))
    )
    with pytest.raises(KeyboardInterrupt), kept:
        lay_out(kept, stop_at(45))
    assert names(folder) == ["epoch_0000015", "epoch_0000030"]


CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
sys.path.insert(0, {tests!r})
from test_checkpoints import ABOUT, Checkpoints, lay_out
import time
with Checkpoints({folder!r}, epochs=3, about=ABOUT) as kept:
    lay_out(kept, lambda _: time.sleep(0.1))
"""


def start(folder, size=2**30):
    """Lay out in a process whose files cannot grow above a size, as on a full disk."""
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(folder), size=size)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_layout_goes_on(tmp_path, unbroken):
    folder = tmp_path / "maps"
    with start(folder) as child:
        # While the second is being written.
        for sight in (f"{PATTERN}/{ABOUT_FILE}", f"{PATTERN}?*"):
            while not any(folder.glob(sight)):
                assert child.poll() is None
                time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
    again, seen = go_on(folder)
    assert seen[0] > 3
    assert_same(again, unbroken)


@pytest.mark.slow
def test_writes_that_fail_in_the_middle_are_said_and_left_behind(tmp_path, unbroken):
    folder = tmp_path / "maps"
    with start(folder, size=1000) as child:
        _, err = child.communicate()
    assert child.returncode == 0
    assert "cannot be written" in err
    assert "File too large" in err
    assert newest(folder) is None
    again, seen = go_on(folder)
    assert seen[0] <= 3
    assert_same(again, unbroken)


def test_what_was_kept_of_one_layout_is_not_sealed_as_anothers(tmp_path, unbroken):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    vars(stopped)["lower"] = run.lower
    kept = Checkpoints(tmp_path / "maps", resume=True)
    with pytest.MonkeyPatch.context() as patch:
        lay_out(kept)
        patch.setattr(ahead, "run", stopped)
        with pytest.raises(KeyboardInterrupt), kept:
            lay_out(kept, seed=1)
    with Checkpoints(tmp_path / "maps", resume=True) as again:
        other = lay_out(again, seed=1)
    assert np.abs(other.maps[0] - unbroken.maps[0]).max() > 0.1


def test_a_folder_serves_one_layout_after_another(tmp_path, unbroken):
    checkpoints = Checkpoints(tmp_path, epochs=20)
    with checkpoints:
        lay_out(checkpoints)
        checkpoints = pickle.loads(pickle.dumps(checkpoints))  # for another process
    with checkpoints:
        again = lay_out(checkpoints)
    assert checkpoints.last is not None
    assert_same(again, unbroken)


def test_the_key_of_a_rule_that_draws_noise_is_kept():
    begun = init(jnp.zeros((2, 2, 4)), n_epochs=2)
    state = replace(begun, moments=jax.random.key(3))  # as optax.add_noise has it
    kept = unpacked(packed_of(state), state)
    placed = state.relaid(
        jnp.asarray, jnp.asarray, lambda x: jnp.asarray(np.asarray(x))
    )
    for again in (kept, placed):
        np.testing.assert_array_equal(packed_of(again), packed_of(state))
        assert again.moments.dtype == state.moments.dtype
