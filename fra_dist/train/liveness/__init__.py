"""Signs of life of a run and limits for work that may hang: phases, heartbeats, pulse, watchdog."""
