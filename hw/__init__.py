"""The accelerator in Amaranth. Sizes come from ``sdp.config``, constants from ``golden``; no files, no simulator, no command line."""
