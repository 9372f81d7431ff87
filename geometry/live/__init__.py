"""The live half of geometry: text runs through a model and becomes rows.

:mod:`~geometry.live.models` loads, :mod:`~geometry.live.capture` reads the residual stream,
:mod:`~geometry.live.bridge` hands a copy to transformer_lens, :mod:`~geometry.live.memory` keeps the
allocator from giving back what the next batch needs. Importing any of them loads torch.
"""
