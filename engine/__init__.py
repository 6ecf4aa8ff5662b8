"""The core: IR, operators, passes' driver, session. It names no frontend, pass or backend, and imports none."""
