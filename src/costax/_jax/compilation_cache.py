"""jax's persistent compilation cache, and what costax takes from it: only a module of the very same program.

By default the key of an entry ignores the names of operations. The names in a module from the cache may then be those
of another program, and work would be charged to its scopes and lines.

Tested with jax 0.8.2, 0.10.2 and 0.12.0.1.
"""

from __future__ import annotations

import importlib
import math
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

_config: Any = importlib.import_module("jax._src.config")


def compiled(lowered: Any, options: Mapping[str, Any] | None = None, *, anew: bool = False) -> Any:
    """Compile a lowered program, or take it from the cache if its entry has the same names.

    options: of XLA. anew: for the CPU, compile it in any case, and leave no entry behind: XLA runs no pass for a module
    from the cache, and writes none.
    """
    with ExitStack() as stack:
        stack.enter_context(_config.compilation_cache_include_metadata_in_key(True))
        if anew:
            stack.enter_context(_config.persistent_cache_min_compile_time_secs(math.inf))
            # The option is a part of the key, and no emitter has this name.
            options = {**(options or {}), "xla_dump_emitter_re": f"none-{secrets.token_hex(8)}"}
        return lowered.compile(compiler_options=dict(options) if options else None)
