"""Aurora over HTTP: a backbone with its adapters and a gallery, for programs and for browsers."""
