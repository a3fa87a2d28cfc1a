"""Pure functions on tensors: no modules, no configuration."""

from deep_delta.ops.delta_rule import chunk_delta_rule as chunk_delta_rule
from deep_delta.ops.delta_rule import delta_rule_step as delta_rule_step
from deep_delta.ops.delta_rule import recurrent_delta_rule as recurrent_delta_rule
from deep_delta.ops.depth_update import delta_operator as delta_operator
from deep_delta.ops.depth_update import delta_update as delta_update
from deep_delta.ops.direction import normalize_direction as normalize_direction
