"""How long single answers take, also around a crash.

Reading order: end_to_end (time of a small query over that of a bare program) -> offline (the same beside a flood of
offline queries) -> crash (processes killed under load).
"""
