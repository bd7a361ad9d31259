"""The highest arrival rate at which a server still holds its SLOs: searched, with an interval and what binds it."""
