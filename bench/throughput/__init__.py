"""How many queries a second each part takes, beside a bare program."""
