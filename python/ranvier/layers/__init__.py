"""The layers; one file a family."""

from ranvier.layers.activation import Activation
from ranvier.layers.base import Layer
from ranvier.layers.dense import Dense
from ranvier.layers.dropout import Dropout
from ranvier.layers.shape import Flatten, Reshape

__all__ = ["Activation", "Dense", "Dropout", "Flatten", "Layer", "Reshape"]
