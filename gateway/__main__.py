"""`python -m gateway` is `oc-gateway`."""

from gateway.cli.main import main

raise SystemExit(main())
