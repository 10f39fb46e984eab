"""Published tables and peers: one runnable module each, all printed and cached by `benchmarks.report`."""
