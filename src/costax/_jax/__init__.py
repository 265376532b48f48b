"""The only package that knows jax versions and jax internals; the rest asks it by name.

Supported: jax 0.8.2 and newer.
"""

from costax._jax.hlo import XlaError as XlaError
from costax._jax.hlo import hlo_from_foreign_text as hlo_from_foreign_text
from costax._jax.hlo import hlo_from_text as hlo_from_text
from costax._jax.hlo import hlo_of as hlo_of
from costax._jax.hlo import hlo_text as hlo_text
from costax._jax.hlo import xla_cost as xla_cost
from costax._jax.jaxprs import Eqn as Eqn
from costax._jax.jaxprs import Jaxpr as Jaxpr
from costax._jax.jaxprs import Var as Var
from costax._jax.jaxprs import constants as constants
from costax._jax.jaxprs import expansion as expansion
from costax._jax.jaxprs import generator as generator
from costax._jax.jaxprs import implementation as implementation
from costax._jax.jaxprs import integer_value as integer_value
from costax._jax.jaxprs import is_jaxpr as is_jaxpr
from costax._jax.jaxprs import is_literal as is_literal
from costax._jax.jaxprs import literal as literal
from costax._jax.jaxprs import live_part as live_part
from costax._jax.jaxprs import lowered_primitives as lowered_primitives
from costax._jax.jaxprs import map_jaxprs as map_jaxprs
from costax._jax.jaxprs import opened as opened
from costax._jax.jaxprs import operand as operand
from costax._jax.jaxprs import params as params
from costax._jax.jaxprs import with_equations as with_equations
from costax._jax.jaxprs import with_scopes as with_scopes
from costax._jax.places import is_user_file as is_user_file
from costax._jax.places import isolated as isolated
from costax._jax.places import name_stack as name_stack
from costax._jax.places import name_stack_parts as name_stack_parts
from costax._jax.places import source as source
from costax._jax.places import without_named_scope as without_named_scope
from costax._jax.stablehlo import attribute as attribute
from costax._jax.stablehlo import constant as constant
from costax._jax.stablehlo import exported_module as exported_module
from costax._jax.stablehlo import place as place
from costax._jax.stablehlo import tensor as tensor
from costax._jax.stages import is_compiled as is_compiled
from costax._jax.stages import is_jitted as is_jitted
from costax._jax.stages import is_lowered as is_lowered
from costax._jax.stages import is_traced as is_traced
from costax._jax.stages import jitted as jitted
from costax._jax.stages import lower as lower
from costax._jax.stages import memory as memory
from costax._jax.stages import memory_sizes as memory_sizes
from costax._jax.stages import static_arguments as static_arguments
from costax._jax.topologies import compile_ahead as compile_ahead
from costax._jax.topologies import compiled_cost as compiled_cost
from costax._jax.topologies import compiled_memory as compiled_memory
from costax._jax.topologies import lowered_program as lowered_program
from costax._jax.topologies import meshes as meshes
from costax._jax.topologies import partitions as partitions
from costax._jax.versions import JAXLIB_VERSION as JAXLIB_VERSION
from costax._jax.versions import VERSION as VERSION
