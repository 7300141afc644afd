"""Data sets: Keys & Locks, which is generated, and any set in YOLO format, which is checked before it is used."""
