# Imports and reconciliations: they continue after a crash, yield to live changes, keep to a pace, send exactly the rows that
# differ, run on a schedule, and are held where they could trigger mail to people.

use strict;
use warnings;

use ContactSync;
use Test::More;
use Time::HiRes qw(time);

my $speed = 10;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('restart_after_crash' => 'on', 'contactsync.clock_speed' => $speed);

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }

sub stderr_of
{
	my ($sql) = @_;
	my $stderr;

	$node->psql('postgres', $sql, stderr => \$stderr, extra_params => [ '-U', 'shop' ]);
	return $stderr;
}

# Return the contacts at a provider as "id plan" in the order of ids.
sub remote
{
	my ($account) = @_;

	return join(',', map { "$_->[0] $_->[1]" } sort { $a->[0] <=> $b->[0] }
		map { [ $_->{externalId}, $_->{attributes}{plan} ] } @{ $sandbox->contacts('mailingcore', account => $account) });
}

sub prepare
{
	my ($name, $rows, %server) = @_;

	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop', server => { pace => 1000, burst => 1000, %server });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, plan text DEFAULT 'A');
		INSERT INTO $name SELECT g, format('$name%s\@example.com', g) FROM generate_series(1, $rows) g});
	return;
}

sub watch
{
	my ($name, $more) = @_;

	sql(qq{SELECT contactsync_watch('$name', '$name', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}' @{[ $more // '' ]})});
	return;
}

sub expected { my ($name) = @_; return sql(qq{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM $name}); }
sub requests { my ($name) = @_; return $sandbox->count('mailingcore', account => $name)->{requests}; }
sub done { my ($name) = @_; return admin(qq{SELECT done FROM contactsync.scan s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE e.server = '$name' AND kind <> 'poll' ORDER BY s.id DESC LIMIT 1}); }

# ---------- crashes ----------

# 10 contacts a call, three of which the provider never answers: there the worker is stopped
prepare('crash', 1500, batch_size => 10, concurrency => 1, timeout => '1d');
watch('crash');
is(sql('SELECT count(*) FROM contactsync.changes'), '0', 'rows that existed before the watch are not sent automatically');
$sandbox->fault('mailingcore', { match => { account => 'crash', key => "crash$_\@example.com" }, action => { stall => \1 } }) foreach 321, 621, 921;
sql(q{SELECT contactsync_import('crash', 'crash')});
my %crashed;
foreach my $stored (320, 620, 920)
{
	wait_until("SELECT count(synced_at) = $stored FROM contactsync.contacts WHERE server = 'crash'", "row $stored");
	flush_wal($node);
	if ($stored < 920)
	{
		$crashed{$stored} = crash_worker($node, 'postgres');
	}
	else
	{
		$node->stop('immediate');
		$crashed{$stored} = time();
		$node->start;
	}
	cmp_ok(done('crash'), '>=', $stored, "after a crash at row $stored the import continues there");
}
sql(q{CALL contactsync_wait('crash')});
is(remote('crash'), expected('crash'), 'all rows arrive');
is(sql(q{SELECT state, phase, done, total, percent, new, unchanged FROM contactsync.progress}), 'done|comparing|1500|1500|100.0|1500|0', 'progress shows the end');
foreach my $stored (sort { $a <=> $b } keys %crashed)
{
	my @later = grep { !/@/ } map { @{ $_->{keys} } } grep { $_->{wall} > $crashed{$stored} } @{ $sandbox->journal('mailingcore', account => 'crash') };

	is((sort { $a <=> $b } @later)[0], $stored + 1, 'no row is sent again whose outcome was on disk');
}
is(sql(q{SELECT failures, backlog, state FROM contactsync.status WHERE server = 'crash'}), '0|0|idle', 'no contact fails');
$sandbox->clear_faults('mailingcore');

# ---------- only rows that differ ----------

my $before = requests('crash');
sql(q{SELECT contactsync_reconcile('crash', 'crash'); CALL contactsync_wait('crash')});
is(sql(q{SELECT state, new, changed, unchanged FROM contactsync.progress WHERE kind = 'reconcile'}), 'done|0|0|1500', 'a reconciliation finds no difference');
is(requests('crash'), $before, 'it sends nothing');

sql(q{
	ALTER TABLE crash DISABLE TRIGGER USER;
	UPDATE crash SET plan = 'B' WHERE id % 100 = 7;
	INSERT INTO crash VALUES (2000, 'new@example.com');
	ALTER TABLE crash ENABLE TRIGGER USER;
	SELECT contactsync_reconcile('crash', 'crash'); CALL contactsync_wait('crash')});
is(sql(q{SELECT state, new, changed, unchanged FROM contactsync.progress WHERE kind = 'reconcile'}), 'done|1|15|1485', 'a reconciliation finds changes that were not captured');
is(remote('crash'), expected('crash'), 'it sends them');

# rows that were deleted unnoticed; one whose address another row has now is sent with that row
prepare('gone', 500);
watch('gone', q{, filter => 'plan <> ''X''', on_delete => 'delete', delete_delay => '0'});
sql(q{SELECT contactsync_import('gone', 'gone'); CALL contactsync_wait('gone')});
sql(q{
	ALTER TABLE gone DISABLE TRIGGER USER;
	DELETE FROM gone WHERE id BETWEEN 101 AND 150;
	UPDATE gone SET plan = 'X' WHERE id = 200;
	UPDATE gone SET plan = 'C' WHERE id = 201;
	ALTER TABLE gone ENABLE TRIGGER USER;
	SELECT contactsync_reconcile('gone', 'gone'); CALL contactsync_wait('gone')});
is(sql(q{SELECT state, new, changed, unchanged, filtered, gone FROM contactsync.progress WHERE server = 'gone' AND kind = 'reconcile'}),
	'done|0|1|448|1|51', 'a reconciliation finds deleted rows');
is(remote('gone'), sql(q{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM gone WHERE plan <> 'X'}), 'they are handled according to on_delete');

# ---------- refused contacts ----------

prepare('refused', 20);
sql(q{UPDATE refused SET email = 'nobody' WHERE id = 5});
watch('refused');
$sandbox->fault('mailingcore', { match => { account => 'refused', key => "refused$_\@example.com" }, times => undef, action => { status => 422 } }) foreach 3, 4;
sql(q{SELECT contactsync_import('refused', 'refused'); CALL contactsync_wait('refused')});
my $failures = q{SELECT string_agg(concat_ws(' ', key, reason, attempts), ',' ORDER BY key) FROM contactsync.failures WHERE server = 'refused'};
is(sql($failures), '3 rejected 1,4 rejected 1,5 invalid_email 1', 'refused contacts are failures');
$before = requests('refused');
sql(q{SELECT contactsync_reconcile('refused', 'refused'); CALL contactsync_wait('refused')});
is(sql(q{SELECT unchanged, refused, invalid FROM contactsync.progress WHERE server = 'refused' AND kind = 'reconcile'}), '17|2|1', 'a reconciliation recognizes unchanged failures');
is(requests('refused'), $before, 'it does not send them again');
is(sql($failures), '3 rejected 1,4 rejected 1,5 invalid_email 1', 'it does not count them again');
sql(q{ALTER TABLE refused DISABLE TRIGGER USER; UPDATE refused SET plan = 'B' WHERE id = 3; SELECT contactsync_reconcile('refused', 'refused'); CALL contactsync_wait('refused')});
like(sql($failures), qr/^3 rejected [2-9],4 rejected 1,/, 'a changed row is sent again');

# ---------- live before bulk ----------

# five calls a second on its clock, one contact per call: the import takes longer than the test
prepare('busy', 4000, pace => 5, burst => 1, batch_size => 1, concurrency => 2);
watch('busy');
sql(q{SELECT contactsync_import('busy', 'busy')});
$sandbox->wait_for_contacts('mailingcore', 5, account => 'busy');
cmp_ok(admin(q{SELECT COALESCE(sum(n), 0) FROM contactsync.queue}), '<=', 4, 'a scan does not fill the queue');
sql(q{INSERT INTO busy SELECT g, format('live%s@example.com', g) FROM generate_series(4001, 4010) g});
wait_for('live changes',
	sub { 10 == grep { $_->{externalId} > 4000 } @{ $sandbox->contacts('mailingcore', account => 'busy') } });
# from the first live change to the last, only calls that had begun or were ready to begin
my @ids = map { grep { !/@/ } @{ $_->{keys} } } @{ $sandbox->journal('mailingcore', account => 'busy') };
my @live = grep { $ids[$_] > 4000 } 0 .. $#ids;
cmp_ok($live[-1] - $live[0] + 1 - @live, '<=', 4, "live changes come before the rows of an import (@ids)");
is(sql(q{SELECT state FROM contactsync.progress WHERE server = 'busy' AND kind = 'import'}), 'running', 'the import continues');
like(sql(q{SELECT done || '/' || total || ' ' || percent || ' ' || (rate > 0) || ' ' || (eta > now()) FROM contactsync.progress WHERE server = 'busy' AND kind = 'import'}),
	qr{^\d+/40\d\d \d+\.\d true true$}, 'progress shows its position');
like(stderr_of(q{SELECT contactsync_import('busy', 'busy')}), qr/ERROR: +table "busy" is already being imported or reconciled/, 'a second import is rejected meanwhile');
like(stderr_of(q{CALL contactsync_wait('busy', '5 s')}), qr{NOTICE: +\d+/\d+ +\d+ % +[\d.]+/s +ETA}, 'contactsync_wait() shows the progress');
is(sql(q{SELECT contactsync_cancel('busy', 'busy')}), 't', 'the import can be cancelled');
sql(q{CALL contactsync_wait('busy')});
my $left = $sandbox->count('mailingcore', account => 'busy')->{contacts};
cmp_ok($left, '<', 4000, 'it ends early');
is(sql(q{SELECT state FROM contactsync.progress WHERE server = 'busy' AND kind = 'import'}), 'canceled', 'progress shows the cancellation');

# a rate of 10 contacts a second on its clock
prepare('slowly', 31);
watch('slowly');
my $begin = $sandbox->call('GET', 'clock')->{now};
sql(q{SELECT contactsync_import('slowly', 'slowly', rate => 10, filter => 'id > 0'); CALL contactsync_wait('slowly')});
is(remote('slowly'), expected('slowly'), 'an import with a rate sends all rows');
my @calls = @{ $sandbox->journal('mailingcore', account => 'slowly') };
cmp_ok(scalar(@calls), '>', 3, 'it makes several calls');
my $span = $calls[-1]{clock} - $begin;
cmp_ok($span, '>=', 1.9, "it keeps to the rate ($span s)");

# ---------- schedule ----------

prepare('nightly', 10);
watch('nightly', q{, reconcile_every => '30 s'});
is(sql(q{SELECT reconcile_every, reconcile_next > now() FROM contactsync.watches WHERE server = 'nightly'}), '00:00:30|t', 'a watch can have a schedule for reconciliations');
$sandbox->wait_for_contacts('mailingcore', 10, account => 'nightly');
sql(q{ALTER TABLE nightly DISABLE TRIGGER USER; UPDATE nightly SET plan = 'Z'});
wait_for('the next time', sub { remote('nightly') eq expected('nightly') });
ok(1, 'they run repeatedly');
is(admin(q{SELECT count(*) FROM contactsync.scan s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE e.server = 'nightly'}), '1', 'only the last one is stored');
sql(q{SELECT contactsync_unwatch('nightly', 'nightly')});

# ---------- the guard ----------

create_server($node, $sandbox, 'caramel', account => 'journeys', role => 'shop', server => { pace => 1000, burst => 1000, concurrency => 10, bulk_guard => 50 });
my $at = sql(q{SELECT to_char(localtimestamp + interval '12 hours', 'HH24:MI:00')});    # not due soon, as the worker's clock is fast
sql(qq{
	CREATE TABLE people (id int PRIMARY KEY, email text, name text);
	INSERT INTO people SELECT g, format('p%s\@example.com', g) FROM generate_series(1, 60) g;
	SELECT contactsync_watch('people', 'journeys', '{"email": "email", "first_name": "name"}', reconcile_every => '1 day', reconcile_at => '$at')});
like(stderr_of(q{SELECT contactsync_import('people', 'journeys')}), qr/ERROR: +importing table "people" could trigger emails to people\nDETAIL: .*journeys.*\nHINT: .*automations => 'paused'/,
	'an import that could start journeys is refused');
is(sql(q{SELECT reconcile_at, reconcile_next::time, reconcile_next > now(), reconcile_next <= now() + interval '1 day' FROM contactsync.watches WHERE server = 'journeys'}),
	"$at|$at|t|t", 'a time of day is observed');
sql(q{UPDATE people SET name = 'x'});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'journeys'}, 'the guard');
like(stderr_of(q{CALL contactsync_wait('journeys')}), qr/ERROR: +delivery to server "journeys" cannot continue: .*60 contacts or more would be sent at once/, 'a large transaction is held');
sql(q{UPDATE people SET name = 'y' WHERE id = 1});
$node->stop;
$node->start;
is(sql(q{SELECT state, backlog FROM contactsync.status WHERE server = 'journeys'}), 'guarded|61', 'a restart does not change that');
is($sandbox->count('caramel', account => 'journeys')->{requests}, 0, 'nothing was sent');
sql(q{SELECT contactsync_resume('people', 'journeys', automations => 'paused'); CALL contactsync_wait('journeys')});
is($sandbox->count('caramel', account => 'journeys')->{contacts}, 60, 'delivery continues after contactsync_resume()');
# a few contacts that change often are a few
foreach my $round (1 .. 8)
{
	sql("UPDATE people SET name = 'r$round' WHERE id <= 10; CALL contactsync_wait('journeys')");
}
is(sql(q{SELECT state FROM contactsync.status WHERE server = 'journeys'}), 'idle', 'many changes of a few contacts are not held');
my $changes = $sandbox->count('caramel', account => 'journeys')->{requests};
cmp_ok($changes, '>', 60 + 50, 'although they are more than may be sent at once');
# many transactions in a short time
sql(join(';', map { "UPDATE people SET name = 'z$_' WHERE id = 1 + $_ % 60" } 1 .. 180));
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'journeys'}, 'the guard');
cmp_ok($sandbox->count('caramel', account => 'journeys')->{requests}, '<', $changes + 180, 'many transactions are held like one');
sql(q{SELECT contactsync_resume('people', 'journeys', automations => 'accepted'); CALL contactsync_wait('journeys')});
is(sql(q{SELECT state, backlog FROM contactsync.status WHERE server = 'journeys'}), 'idle|0', 'delivery continues after contactsync_resume() once more');
sql(q{ALTER TABLE people DISABLE TRIGGER USER; UPDATE people SET name = 'reconciled'; SELECT contactsync_reconcile('people', 'journeys')});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'journeys'}, 'the guard');
$before = $sandbox->count('caramel', account => 'journeys')->{requests};
sql(q{SELECT contactsync_resume('people', 'journeys', automations => 'paused'); CALL contactsync_wait('journeys')});
is($sandbox->count('caramel', account => 'journeys')->{requests}, $before + 60, 'a reconciliation is held as well, and then continues');
is(sql(q{SELECT state, changed FROM contactsync.progress WHERE server = 'journeys' AND kind = 'reconcile'}), 'done|60', 'it runs to its end');

$node->stop;
done_testing();
