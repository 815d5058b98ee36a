"""Parameters by adapter: a layer's own, and a layer's view of those that the tuner owns."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from torch import Tensor, nn

RESERVED_NAMES = ("", "__base__")


class AdapterParameters(nn.ParameterDict):
    """One parameter an adapter, to be read by calling it.

    A call runs the hooks by which accelerate brings an offloaded parameter back.
    """

    __call__ = nn.Module.__call__  # torch's ParameterDict refuses calls

    def forward(self, adapter_name: str) -> Tensor:
        """Return the adapter's parameter."""
        value: Tensor = self[adapter_name]
        return value


class SharedParameters(MutableMapping[str, nn.Parameter]):
    """What a layer sees of a container of the tuner: the adapters that it has itself.

    Args:
        container: the tuner's. PEFT re-assigns parameters, so the container is what is kept.
        own: the layer's own parameters.
    """

    def __init__(self, container: AdapterParameters, own: AdapterParameters) -> None:
        self._container, self._own = container, own

    def __call__(self, adapter_name: str) -> Tensor:
        """Return the adapter's parameter."""
        value: Tensor = self._container(adapter_name)
        return value

    def __getitem__(self, adapter_name: str) -> nn.Parameter:
        if adapter_name not in self._own:
            raise KeyError(adapter_name)
        parameter: nn.Parameter = self._container[adapter_name]
        return parameter

    def __setitem__(self, adapter_name: str, value: nn.Parameter) -> None:
        self._container[adapter_name] = value

    def __delitem__(self, adapter_name: str) -> None:
        del self._container[adapter_name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._container if name in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def check_adapter_name(name: str) -> None:
    """Refuse a name that cannot be a key of parameters.

    Raises:
        ValueError: it is empty, has a dot, or is an attribute of torch's containers.
    """
    if name in RESERVED_NAMES or "." in name or hasattr(AdapterParameters(), name):
        raise ValueError(
            f"An adapter cannot be called {name!r}: torch allows no empty name, no dot and no name "
            "of its own such as 'keys', and '__base__' stands for the frozen model."
        )
