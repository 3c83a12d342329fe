-- Fewer, wider merges in the two tables that are large enough to feel it: a row is rewritten a quarter less often before its part
-- is large, and the background reads and writes a third less. There are half as many small parts more at a time.
ALTER TABLE grantscope.auth_events MODIFY SETTING merge_selector_base = 10;
ALTER TABLE grantscope.token_events MODIFY SETTING merge_selector_base = 10;
