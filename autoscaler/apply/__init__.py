"""How a decision is carried out: rows in one transaction, and workers started and stopped towards them."""
