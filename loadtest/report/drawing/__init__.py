"""Charts and the frame of a page, for whatever was measured: nothing here knows of load tests."""
