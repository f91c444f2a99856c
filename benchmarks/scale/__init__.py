"""How far one coordinator goes: its speed, its memory, and how busy it keeps many workers."""
