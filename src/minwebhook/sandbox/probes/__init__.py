"""The escape corpus: what scripts must not be able to do, as programs that try it inside (``minwebhook doctor --sandbox``)."""
