"""Which releases of JAX aljax runs on, said before any of it is loaded."""

from importlib import metadata

# Beside the pins of pyproject.toml, for environments that were made without them.
BROKEN = {"0.10.2": "miscompiles reductions on CPUs, which makes results wrong"}
OLDEST = (0, 9)
REMEDY = "Install another: pip install 'jax>=0.9,!=0.10.2,<0.13'."


def check_jax() -> None:
    """Refuse releases of jax and jaxlib that are too old or known to be broken.

    Newer ones than were tested are let through: pip warns of them.

    Raises:
        ImportError: One of them is; it says which and what to install.
    """
    for name in ("jax", "jaxlib"):
        version = metadata.version(name)
        if version in BROKEN:
            raise ImportError(f"{name} {version} {BROKEN[version]}. {REMEDY}")
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST:
            raise ImportError(
                f"{name} {version} is older than aljax supports. {REMEDY}"
            )
