"""Events and profiles from Mixpanel: its export and engage APIs, as batches of rows."""
