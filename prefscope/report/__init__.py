"""Reports, tables, plots and exported files made from ledgers."""
