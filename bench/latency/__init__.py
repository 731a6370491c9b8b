"""How long single answers take, also around a crash.

Reading order: end_to_end (time of a small query over that of a bare program) -> crash (processes killed under load).
"""
