"""Run by test_distributed.py as each of several processes; process 0 prints JSON.

python on_processes.py PORT PROCESSES PROCESS_ID CASE
"""

import json
import os
import signal
import sys

import jax
import numpy as np
from helpers import NEIGHBORS, make_data, make_relations

import aljax
import aljax.distributed

SIZES = (41, 48, 45, 43, 47)
HEARTBEAT = 10


def fits(
    epochs: int, *, ids: bool = False, kappa: float = 0, times: int = 1, progress=None
) -> float:
    """The farthest that the maps of all processes are from those of one device."""
    sizes = SIZES * times
    data, relations = make_data(sizes), make_relations(sizes)
    if ids:
        relations = [list(range(size)) for size in sizes]
    options = {
        "key": jax.random.key(0),
        "graph": aljax.GraphConfig(n_neighbors=NEIGHBORS),
        "layout": aljax.LayoutConfig(
            n_epochs=epochs, min_dist=[0.1, 0.2, 0.1, 0.3, 0] * times
        ),
        "alignment": aljax.AlignmentConfig(
            alignment_window_size=2, motion_fidelity=kappa
        ),
    }
    count = len(sizes)
    own = aljax.distributed.share(count).own
    mine = data[own.start : own.stop]
    found = aljax.distributed.fit(
        mine, relations, n_slices=count, progress=progress, **options
    )
    assert [len(one) for one in found.maps] == [sizes[t] for t in own]
    maps, history = aljax.distributed.gather(found, count)
    assert history.total().shape == (-(-epochs // 10),)
    one = aljax.fit(data, relations, **options)
    pairs = zip(maps, one.maps, strict=True)
    lost = np.abs(np.asarray(history.total() / one.history.total())[0] - 1)
    assert lost < 1e-5
    return max(float(np.abs(ours - its).max()) for ours, its in pairs)


def die(_) -> None:
    """Like a machine that is switched off, after the first epochs."""
    if jax.process_index() == int(os.environ["DIES"]):
        os.kill(os.getpid(), signal.SIGKILL)


def main(port: str, processes: str, process_id: str, case: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        int(processes),
        int(process_id),
        heartbeat_timeout_seconds=HEARTBEAT,
    )
    assert jax.device_count() == 2 * int(processes)
    if case == "dies":
        fits(2000, progress=die)
        return
    found = {"single": fits(1), "ids": fits(1, ids=True)}
    found["motion"] = fits(1, kappa=1)
    found["anchors"] = fits(1, ids=True, kappa=1, times=3)
    with jax.enable_x64(True):
        found["double"] = fits(20)
        found["motion in double"] = fits(20, kappa=1)
    if jax.process_index() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
