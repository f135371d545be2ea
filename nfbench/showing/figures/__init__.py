"""The figures of `nfbench plot`: one table of kinds, one driver, and the modules that draw."""
