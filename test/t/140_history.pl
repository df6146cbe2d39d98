# What was done with many contacts at once, and, where it is logged, what became of each contact and why it was sent again.

use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.probe_interval' => '1s');

$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop; CREATE ROLE colleague LOGIN IN ROLE shop; CREATE ROLE other LOGIN});

sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub sql { return as('shop', $_[0]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }
sub wait_for_run { my ($kind) = @_; wait_until("SELECT count(*) = 0 FROM contactsync.run WHERE kind = '$kind' AND finished_at IS NULL", "the end of $kind"); return sql(q{CALL contactsync_wait('mail')}); }

# Return the last run of a kind.
sub run_of { my ($kind) = @_; return sql(qq{SELECT state, source, started_by, finished_by, outcomes, reason, finished_at >= started_at FROM contactsync.runs WHERE kind = '$kind' LIMIT 1}); }

# Return what was logged of a row since the last call.
my %seen;

sub logged
{
	my ($key) = @_;
	my $last = $seen{$key} // 0;
	my $rows = sql(qq{SELECT string_agg(concat_ws(' ', outcome, cause, fields::text, again, reason, started_by), ', ' ORDER BY id) FROM contactsync.outcomes WHERE key = '$key' AND id > $last});

	$seen{$key} = sql(q{SELECT COALESCE(max(id), 0) FROM contactsync.outcomes});
	return $rows;
}

create_server($node, $sandbox, 'mailingcore', account => 'mail', role => 'shop', server => { pace => 1000, burst => 1000, timeout => '1s' });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, name text, plan text, opt_in boolean);
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'Name ' || g, 'free' FROM generate_series(1, 5) g;
	SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "opt_in", "attributes": {"plan": "plan"}}', on_delete => 'delete', delete_delay => '0')});

# runs
sql(q{SELECT contactsync_import('customers', 'mail')});
wait_for_run('import');
is(run_of('import'), 'done|customers|shop||{"new": 5}||t', 'an import: who began it, what it found, and how it ended');
is(admin(q{SELECT count(*) FROM contactsync.outcome}), '0', 'nothing is logged of contacts unless that is asked for');
is(admin(q{SELECT count(*) FROM contactsync.contact WHERE fields IS NOT NULL}), '0', 'nor anything kept of their fields');
as('colleague', q{SELECT contactsync_reconcile('customers', 'mail')});
wait_for_run('reconcile');
is(run_of('reconcile'), 'done|customers|colleague||{"unchanged": 5}||t', 'a reconciliation that another role began');
sql(q{SELECT contactsync_pause('mail'); SELECT contactsync_reconcile('customers', 'mail', filter => '1 / (length(plan) - 3) IS NOT NULL');
	UPDATE customers SET plan = 'abc' WHERE id = 1; SELECT contactsync_resume('mail')});
wait_for_run('reconcile');
like(run_of('reconcile'), qr/^failed\|customers\|shop\|.*division by zero/, 'one that failed, and why');
sql(q{UPDATE customers SET plan = 'free' WHERE id = 1; CALL contactsync_wait('mail')});
sql(q{SELECT contactsync_pause('mail'); SELECT contactsync_reconcile('customers', 'mail')});
is(run_of('reconcile'), 'running|customers|shop||{}||', 'one that runs');
as('colleague', q{SELECT contactsync_cancel('customers', 'mail')});
is(run_of('reconcile'), 'canceled|customers|shop|colleague|{}||t', 'and who canceled it');
sql(q{SELECT contactsync_resume('mail'); SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '1 day')});
admin(q{UPDATE contactsync.watch SET reconcile_next = now(); SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
wait_until(q{SELECT count(*) = 1 FROM contactsync.run WHERE kind = 'reconcile' AND started_by IS NULL AND state = 'done'}, 'the schedule');
is(run_of('reconcile'), 'done|customers|||{"unchanged": 5}||t', 'one that was due');
sql(q{SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '0')});
sql(q{SELECT contactsync_pull('mail')});
is(run_of('pull'), 'done||shop||{"listed": 5}||t', 'a pull of a role');
sql(q{ALTER SERVER mail OPTIONS (ADD pull_every '1s')});
wait_until(q{SELECT count(*) > 0 FROM contactsync.run WHERE kind = 'pull' AND started_by IS NULL}, 'a pull of the worker');
like(run_of('pull'), qr/^done\|\|\|\|\{"listed": \d+\}\|\|t$/, 'a pull of the worker');
sql(q{ALTER SERVER mail OPTIONS (DROP pull_every)});

# guards
sql(q{SELECT contactsync_alter_watch('customers', 'mail', delete_guard => '1'); DELETE FROM customers WHERE id IN (4, 5)});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status}, 'the guard');
is(run_of('guard'), 'held|customers|||{"held": 2}|removals|', 'what a guard holds');
as('colleague', q{SELECT contactsync_resume('customers', 'mail', removals => 'kept')});
is(run_of('guard'), 'kept|customers||colleague|{"held": 2}|removals|t', 'and who decided on it, and how');
create_server($node, $sandbox, 'caramel', role => 'shop', server => { bulk_guard => 2, pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE subscribers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('subscribers', 'caramel', '{"email": "email"}');
	INSERT INTO subscribers SELECT g, format('s%s@example.com', g) FROM generate_series(1, 5) g});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'caramel'}, 'the bulk guard');
like(run_of('guard'), qr/^held\|subscribers\|\|\|\{"held": \d\}\|automations\|$/, 'what the bulk guard holds');
sql(q{SELECT contactsync_unwatch('subscribers', 'caramel')});
is(run_of('guard'), 'canceled||||{"held": 5}|unwatched|t', 'it ends with the watch');

# polling
sql(q{
	CREATE TABLE polled (id int PRIMARY KEY, email text, changed_at timestamptz DEFAULT clock_timestamp());
	SELECT contactsync_watch('polled', 'mail', '{"email": "email"}', capture => 'poll', poll_column => 'changed_at', poll_every => '1 s');
	INSERT INTO polled VALUES (1, 'p1@example.com')});
wait_until(q{SELECT count(*) > 0 FROM contactsync.runs WHERE kind = 'poll' AND outcomes ->> 'new' = '1'}, 'a poll');
wait_until(q{SELECT count(*) > 0 FROM contactsync.runs r WHERE kind = 'poll' AND state = 'done' AND outcomes = '{"unchanged": 1}'}, 'a poll that finds the same row');
pass('each round of polling counts by itself');
sql(q{SELECT contactsync_alter_watch('polled', 'mail', poll_every => '1 h')});
sql(q{SELECT contactsync_unwatch('polled', 'mail')});
is(admin(q{SELECT count(*) FROM contactsync.run WHERE finished_at IS NULL}), '0', 'nothing that has ended is left as running');

# contacts
sql(q{ALTER SERVER mail OPTIONS (ADD log_contacts 'true')});
sql(q{INSERT INTO customers VALUES (7, 'jane@example.com', 'Jane', 'free'); CALL contactsync_wait('mail')});
is(logged(7), 'synced change {email,external_id,first_name,opt_in,plan}', 'a contact that is new');
sql(q{UPDATE customers SET plan = 'gold', name = 'Janet' WHERE id = 7; CALL contactsync_wait('mail')});
is(logged(7), 'synced change {first_name,plan}', 'a change, and the names of what changed');
sql(q{UPDATE customers SET name = NULL WHERE id = 7; CALL contactsync_wait('mail')});
is(logged(7), 'synced change {first_name}', 'null is a change as well');
sql(q{SELECT contactsync_touch('customers', 'mail', 7); CALL contactsync_wait('mail')});
is(logged(7), 'synced touch {} forced', 'contactsync_touch() sends what has not changed');
sql(q{UPDATE customers SET email = 'jane@example' || '.com ' WHERE id = 7; CALL contactsync_wait('mail')});
is(logged(7), 'unchanged change {}', 'a change that makes none at the provider makes no call');
sql(q{UPDATE customers SET name = 'Name I' WHERE id = 1; CALL contactsync_wait('mail')});
is(logged(1), 'synced change', 'which fields differ is not known of what was sent before that was logged');
sql(q{SELECT contactsync_mark_stale('mail')});
as('colleague', q{SELECT contactsync_reconcile('customers', 'mail')});
wait_for_run('reconcile');
is(logged(7), 'synced reconcile {} stale colleague', 'why it was sent again, and who had it sent');
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, effect => 'after', action => { reset => 'after' } });
sql(q{UPDATE customers SET plan = 'silver' WHERE id = 7; CALL contactsync_wait('mail')});
like(logged(7), qr/^synced change \{plan\}( unconfirmed)?$/, 'a call without an answer');
sql(q{UPDATE customers SET email = 'nobody' WHERE id = 7; CALL contactsync_wait('mail')});
is(logged(7), 'failed change invalid_email', 'a failure, and why');
sql(q{SELECT contactsync_retry('mail'); CALL contactsync_wait('mail')});
is(logged(7), 'failed retry invalid_email', 'one that is tried again');
sql(q{UPDATE customers SET email = 'jane@example.com' WHERE id = 7; CALL contactsync_wait('mail')});
logged(7);

# the question of the documentation
my $text = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/monitoring.md");
my ($question) = $text =~ /Why was this sent again\?.*?```sql\n(.*?)```/s or die 'no such question';
like($question, qr/^SELECT[^;]+;\n$/, 'one SELECT');
like(sql($question =~ s/'17'/'7'/r), qr/\|synced\|reconcile\|\{\}\|stale\|\d+\|colleague$/m, 'and its answer');

# a person
is(sql(q{SELECT count(*) FROM contactsync_find('jane@example.com') WHERE event = 'logged' AND detail ->> 'cause' = 'reconcile' AND detail ->> 'started_by' = 'colleague'}), '1',
	'contactsync_find() shows it');
is(as('other', q{SELECT (SELECT count(*) FROM contactsync.runs), (SELECT count(*) FROM contactsync.outcomes), (SELECT count(*) FROM contactsync_find('jane@example.com'))}), '0|0|0',
	'other roles see nothing of it');
admin(q{GRANT pg_monitor TO other});
is(as('other', q{SELECT (SELECT count(*) FROM contactsync.runs), (SELECT count(*) FROM contactsync.outcomes)}), '0|0', 'nor do members of pg_monitor');
unlike(admin(q{SELECT string_agg(o::text, ' ') FROM contactsync.outcome o}), qr/example|Jane|gold|silver/, 'no value and no address is logged');
unlike(admin(q{SELECT string_agg(fields::text, ' ') FROM contactsync.contact}), qr/[Jj]ane|gold/, 'nor kept');
sql(q{DELETE FROM customers WHERE id = 7; CALL contactsync_wait('mail')});
wait_until(q{SELECT count(*) > 0 FROM contactsync.outcomes WHERE key = '7' AND outcome = 'deleted'}, 'the removal');
is(logged(7), 'gone change, deleted removal', 'a row that goes, and its contact');
is(sql(q{SELECT count(*) > 8 FROM contactsync_find('jane@example.com')}), 't', 'a person whose contact has gone is found by a hash of the address');
like(sql(q{SELECT string_agg(what || ' ' || rows, ', ') FROM contactsync_forget('jane@example.com')}), qr/outcome \d\d/, 'and forgotten');
is(admin(q{SELECT count(*) FROM contactsync.outcome WHERE key = '7'}), '0', 'nothing is left of the person');
is(sql(q{SELECT count(*) FROM contactsync_find('jane@example.com')}), '0', 'nor found');
sql(q{SELECT contactsync_upsert('mail', '{"email": "joe@example.com", "first_name": "Joe"}'); CALL contactsync_wait('mail');
	SELECT contactsync_upsert('mail', '{"email": "joe@example.com", "first_name": "Joseph"}'); CALL contactsync_wait('mail')});
is(sql(q{SELECT string_agg(concat_ws(' ', source, key, outcome, cause, fields::text), ', ' ORDER BY id) FROM contactsync.outcomes WHERE cause = 'upsert'}),
	'synced upsert {email,first_name}, synced upsert {first_name}', 'contactsync_upsert()');
sql(q{SELECT * FROM contactsync_forget('joe@example.com')});
is(sql(q{SELECT count(*) FROM contactsync.outcomes WHERE cause = 'upsert'}), '0', 'of which nothing is left either');

# off again
sql(q{ALTER SERVER mail OPTIONS (SET log_contacts 'false'); UPDATE customers SET plan = 'off' WHERE id = 1; CALL contactsync_wait('mail')});
is(admin(q{SELECT count(*) FROM contactsync.contact WHERE upsert_key = '1' AND fields IS NOT NULL}), '0', 'what is kept of the fields goes with the next call');

# retention
admin(q{
	INSERT INTO contactsync.outcome (at, endpoint, watch, outcome, cause, attempts) SELECT now() - interval '40 days', min(id), 0, 'synced', 'old', 0 FROM contactsync.endpoint;
	UPDATE contactsync.outcome SET id = 0 WHERE cause = 'old';
	INSERT INTO contactsync.run (endpoint, watch, kind, state, started_at, finished_at) SELECT min(id), 0, 'pull', 'done', now() - interval '2 years', now() - interval '2 years' FROM contactsync.endpoint;
	ALTER SYSTEM SET contactsync.run_log_rows = 2; SELECT pg_reload_conf()});
$node->stop;
$node->start;
wait_until(q{SELECT NOT EXISTS (SELECT FROM contactsync.outcome WHERE cause = 'old')}, 'the worker to prune');
is(admin(q{SELECT count(*) FROM contactsync.run WHERE finished_at < now() - interval '1 year'}), '0', 'old runs are deleted');
is(admin(q{SELECT max(n) FROM (SELECT count(*) AS n FROM contactsync.run GROUP BY watch, endpoint, kind) c}), '2', 'and of each kind all but the last ones');
is(sql(q{SELECT count(*) FROM contactsync.runs WHERE kind = 'import'}), '1', 'however many there are of another kind');
admin(q{ALTER SYSTEM SET contactsync.contact_log_rows = 1});
sql(q{ALTER SERVER mail OPTIONS (SET log_contacts 'true'); UPDATE customers SET plan = plan || '+'; CALL contactsync_wait('mail')});
$node->stop;
$node->start;
wait_until(q{SELECT count(*) = 1 FROM contactsync.outcome}, 'the worker to prune by number');
pass('outcomes beyond contact_log_rows are deleted');

$node->stop;
done_testing();
