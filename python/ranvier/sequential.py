"""Sequential: the model whose layers follow one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ranvier import _core
from ranvier.data import as_arrays
from ranvier.layers.base import Layer, assign_names, input_shape_of
from ranvier.model import Model
from ranvier.network import building
from ranvier.tensor import Placeholder, Shape, Tensor, trace


class Sequential(Model):
    """Layers one after another. ``input_shape`` is that of one sample; left out, it is taken from the first data.

    >>> import ranvier as rv
    >>> model = rv.Sequential([rv.Dense(3, activation="relu"), rv.Dense(1)], input_shape=(4,), seed=0)
    >>> model.outputs[0].shape
    (None, 1)
    """

    def __init__(
        self, layers: Sequence[Layer], input_shape: Any = None, seed: int | None = None, name: str | None = None
    ) -> None:
        Layer.__init__(self, name)
        self._start(seed)
        if not isinstance(layers, list | tuple):
            raise TypeError(f"Sequential: expected a list of layers, got {layers!r:.80}")
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("Sequential: expected one layer or more")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                hint = "; give input_shape= instead" if isinstance(layer, Tensor) else ""
                raise TypeError(f"Sequential: layers[{index}] is no layer but {layer!r:.80}{hint}")
        assign_names(self.layers)  # finds duplicates
        if input_shape is not None:
            self.build(input_shape_of(input_shape, "Sequential"))
            self._build_network()

    def build(self, input_shape: Shape) -> None:
        """Call the layers in turn; done by the constructor, the first data, or the model that this one is nested in."""
        x = Tensor(input_shape, Placeholder(name=""))
        with trace.inside(parent=None, scope="", names={**assign_names(self.layers), **trace.names}):
            y = x
            for layer in self.layers:
                y = layer(y)
        self._link(x, y)

    def _forget(self) -> None:
        super()._forget()
        self._unlink()

    @contextmanager
    def _first_data(self) -> Iterator[None]:
        fresh = [] if self.built else [self, *(layer for layer in self.layers if not layer.built)]
        try:
            yield
        except (TypeError, ValueError):
            for layer in fresh:
                layer._forget()
            raise

    def _network_of(self, x: Any) -> _core.Network:
        if not self.built and x is not None:
            with building:
                if not self.built:
                    shape = as_arrays(x, 1, "x")[0].shape
                    if len(shape) < 2:
                        raise ValueError(
                            f"{self.title()}: expected a batch (rows, ...), got shape {shape}; for one row pass x[None]"
                        )
                    self.build(input_shape_of(shape[1:], "Sequential"))
        return self.network

    def get_config(self) -> dict[str, Any]:
        shape = list(self.inputs[0].shape[1:]) if self.built else None
        return {"layers": self.layers, "input_shape": shape, "seed": self.seed, "name": self.name}
