# delete_guard, as a plain role: preset, as a number and as a share, by live deletions and by one scan. It counts contacts, not
# rows, and not those whom contactsync_forget() erases; what it has counted outlives a restart; it goes on by a word. Status
# counts what is to be removed, what is held and what is withheld.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use JSON::PP;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub admin { return $node->safe_psql('postgres', $_[0]); }
sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning; $_[0]", extra_params => [ '-U', 'shop' ]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }
sub wait_for_guard { my ($name) = @_; wait_until("SELECT bool_or(state = 'guarded') FROM contactsync.status WHERE server = '$name'", "the guard of $name"); return; }
sub wait_for_removals { my ($name) = @_; wait_until("SELECT count(*) = 0 FROM contactsync.departure d JOIN contactsync.endpoint e ON e.id = d.endpoint WHERE e.server = '$name'", "the removals of $name"); return; }
sub contacts { my ($name, $provider) = @_; return scalar @{ $sandbox->contacts($provider // 'mailingcore', account => $name) }; }
sub state { my ($name) = @_; return sql("SELECT state FROM contactsync.status WHERE server = '$name'"); }
sub reason { my ($name) = @_; return sql("SELECT reason FROM contactsync.status WHERE server = '$name'"); }

# 1,200 contacts at MailingCore, deleted there by external_id
sub prepare
{
	my ($name, $options, %param) = @_;

	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop', server => { pace => 1000, burst => 1000 });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, person int, updated_at timestamptz NOT NULL DEFAULT now());
		@{[ $param{view} ? "CREATE VIEW ${name}_view AS SELECT * FROM $name WHERE person >= 0" : '' ]};
		INSERT INTO $name SELECT g, @{[ $param{person} // 'g' ]} FROM generate_series(1, 1200) g;
		SELECT contactsync_watch('@{[ $param{view} ? "${name}_view" : $name ]}', '$name', '{"email": "format(''p%s\@example.com'', person)", "external_id": "person"}',
			on_delete => 'delete', delete_delay => '0' $options);
		SELECT contactsync_import('@{[ $param{view} ? "${name}_view" : $name ]}', '$name');
		CALL contactsync_wait('$name')});
	return;
}

# One session listens throughout.
my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
my $stdin = '';
my $stdout = '';
my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'shop' ], '<', \$stdin, '>', \$stdout, '2>', \$stdout, $timer);
$stdin .= "LISTEN contactsync;\nSELECT 'listening';\n";
$run->pump until $stdout =~ /listening/;

# Return the next notification that a watch is held.
sub told
{
	my $event;

	wait_for('a notification',
		sub {
			$stdin .= "SELECT 'looked';\n";
			$stdout = '';
			$run->pump until $stdout =~ /looked/;
			($event) = grep { $_->{event} eq 'guarded' } map { decode_json($_) } $stdout =~ /Asynchronous notification "contactsync" with payload "(\{.*?\})" received/g;
			return $event;
		});
	return join ' ', @{$event}{qw(server owner source reason failed)};
}

# ---------- preset: more than 100 and more than 10 %, within a minute ----------

prepare('preset', '');
is(contacts('preset'), 1200, 'all rows are contacts');
sql(q{DELETE FROM preset WHERE id <= 110; CALL contactsync_wait('preset')});
wait_for_removals('preset');
is(contacts('preset'), 1090, 'more than 100, but not more than 10 %, are removed');
sql(q{DELETE FROM preset WHERE id <= 125});
wait_for_guard('preset');
is(contacts('preset'), 1090, 'the next ones of this minute are held');
is(told(), 'preset shop public.preset removals 125', 'that is notified');
like(reason('preset'), qr/^removals: 15 contacts would be removed at the provider, after 110 within the last minute; 1075 would stay\. The first are 111, 112, 113\./, 'the reason says how many, and which are the first');
is(sql(q{SELECT backlog, count(c.*) FROM contactsync.status s LEFT JOIN contactsync.changes c USING (server, source) WHERE server = 'preset' GROUP BY backlog}), '15|15', 'status and changes show what is to be removed');
is(sql(q{SELECT DISTINCT removal FROM contactsync.changes}), 'delete', '... and how');
my (undef, undef, $stderr) = $node->psql('postgres', q{CALL contactsync_wait('preset')}, extra_params => [ '-U', 'shop' ]);
like($stderr, qr/cannot continue: the watch on public\.preset: removals: 15 contacts/, 'contactsync_wait() says so');
# the bulk guard tells as well
create_server($node, $sandbox, 'caramel', account => 'journeys', role => 'shop', server => { bulk_guard => 10 });
sql(q{
	CREATE TABLE people (id int PRIMARY KEY, email text, name text);
	SELECT contactsync_watch('people', 'journeys', '{"email": "email", "first_name": "name"}');
	INSERT INTO people SELECT g, format('j%s@example.com', g) FROM generate_series(1, 12) g});
wait_for_guard('journeys');
like(told(), qr/^journeys shop public\.people automations 1[12]$/, 'the bulk guard is notified, too');
sql(q{SELECT contactsync_unwatch('people', 'journeys')});
$stdin .= "\\q\n";
$run->finish;
$node->stop;
$node->start;
wait_until(q{SELECT worker = 'running' FROM contactsync.status WHERE server = 'preset'}, 'the worker');
is(state('preset') . contacts('preset'), 'guarded1090', 'a restart does not change that');
sql(q{SELECT contactsync_resume('preset', 'preset', removals => 'kept'); CALL contactsync_wait('preset')});
is(state('preset') . contacts('preset') . sql(q{SELECT count(*) FROM contactsync.changes}), 'idle10900', 'they can be kept');
sql(q{DELETE FROM preset WHERE id > 1000});
wait_for_guard('preset');
sql(q{SELECT contactsync_resume('preset', 'preset', removals => 'accepted'); CALL contactsync_wait('preset')});
wait_for_removals('preset');
is(contacts('preset'), 890, 'or removed');
sql(q{DELETE FROM preset WHERE id = 1000; CALL contactsync_wait('preset')});
wait_for_removals('preset');
is(state('preset') . contacts('preset'), 'idle889', 'what was accepted is not counted against what comes next');

# ---------- a number; what was counted outlives a restart, and lasts for a minute ----------

prepare('number', q{, delete_guard => '50'});
sql(q{DELETE FROM number WHERE id <= 30; CALL contactsync_wait('number')});
wait_for_removals('number');
$node->stop;
$node->start;
sql(q{DELETE FROM number WHERE id <= 51});
wait_for_guard('number');
is(contacts('number'), 1170, 'removals before a restart count');
like(reason('number'), qr/^removals: 21 contacts would be removed at the provider, after 30 within the last minute/, 'the reason says so');
sql(q{SELECT contactsync_resume('number', 'number', removals => 'accepted'); CALL contactsync_wait('number')});
wait_for_removals('number');
is(contacts('number'), 1149, 'the contacts are removed');
# the next minute
sql(q{DELETE FROM number WHERE id <= 101; CALL contactsync_wait('number')});
wait_for_removals('number');
is(contacts('number'), 1099, 'exactly as many as the number are not too many');
admin(q{UPDATE contactsync.watch SET removed_since = removed_since - interval '1 min' WHERE source = 'number'::regclass});
sql(q{DELETE FROM number WHERE id <= 151; CALL contactsync_wait('number')});
wait_for_removals('number');
is(state('number') . contacts('number'), 'idle1049', 'nor are as many again a minute later');

# ---------- erasures are not counted ----------

sql(q{SELECT contactsync_alter_watch('number', 'number', delete_guard => '5')});
admin(q{UPDATE contactsync.watch SET removed_since = removed_since - interval '1 min' WHERE source = 'number'::regclass});
sql(q{BEGIN; DELETE FROM number WHERE id <= 171; SELECT contactsync_forget(format('p%s@example.com', g)) FROM generate_series(152, 171) g; COMMIT; CALL contactsync_wait('number')});
wait_for_removals('number');
is(state('number') . contacts('number'), 'idle1029', 'erasures by contactsync_forget() are not counted');
sql(q{DELETE FROM number WHERE id <= 176; CALL contactsync_wait('number')});
wait_for_removals('number');
is(state('number') . contacts('number'), 'idle1024', 'five more are removed');
sql(q{DELETE FROM number WHERE id = 177});
wait_for_guard('number');
sql(q{SELECT contactsync_forget('p177@example.com')});
wait_for_removals('number');
is(state('number') . contacts('number'), 'guarded1023', 'an erasure passes a held watch');

# ---------- a share, of contacts and not of rows ----------

prepare('share', q{, delete_guard => '15%'}, person => '(g + 1) / 2');
is(contacts('share'), 600, 'two rows are one contact');
sql(q{DELETE FROM share WHERE id % 2 = 0 AND id <= 1000; CALL contactsync_wait('share')});
is(state('share') . contacts('share'), 'idle600', 'a contact that another row stands for is not removed, and does not count');
sql(q{DELETE FROM share WHERE person BETWEEN 401 AND 490; CALL contactsync_wait('share')});
wait_for_removals('share');
is(state('share') . contacts('share'), 'idle510', '15 % are removed');
admin(q{UPDATE contactsync.watch SET removed_since = removed_since - interval '1 min' WHERE source = 'share'::regclass});
sql(q{INSERT INTO share SELECT g + 10000, person FROM share, generate_series(1, 10) g WHERE person BETWEEN 1 AND 100 AND id = person * 2 - 1 ON CONFLICT DO NOTHING;
	INSERT INTO share SELECT 20000 + id * 10 + g, person FROM share, generate_series(1, 4) g WHERE id < 1200; CALL contactsync_wait('share')});
is(contacts('share'), 510, 'many more rows stand for the same contacts');
sql(q{DELETE FROM share WHERE person BETWEEN 1 AND 77});
wait_for_guard('share');
is(contacts('share'), 510, 'more than 15 % of the contacts are held');
like(reason('share'), qr/^removals: 77 contacts would be removed at the provider; 433 would stay\./, 'the reason counts contacts');
sql(q{SELECT contactsync_resume('share', 'share', removals => 'kept')});

# ---------- one scan: a view that shrinks ----------

prepare('shrinks', q{, capture => 'poll', poll_column => 'updated_at', key => '{id}', poll_every => '1 h'}, view => 1);
is(contacts('shrinks'), 1200, 'all rows of the view are contacts');
sql(q{CREATE OR REPLACE VIEW shrinks_view AS SELECT * FROM shrinks WHERE person > 120; SELECT contactsync_reconcile('shrinks_view', 'shrinks'); CALL contactsync_wait('shrinks')});
wait_for_removals('shrinks');
is(state('shrinks') . contacts('shrinks'), 'idle1080', '10 % of one scan are removed');
admin(q{UPDATE contactsync.watch SET removed_since = removed_since - interval '1 min' WHERE source = 'shrinks_view'::regclass});
sql(q{CREATE OR REPLACE VIEW shrinks_view AS SELECT * FROM shrinks WHERE person > 240; SELECT contactsync_reconcile('shrinks_view', 'shrinks')});
wait_for_guard('shrinks');
is(contacts('shrinks'), 1080, 'more of one scan are held');
like(reason('shrinks'), qr/^removals: 120 contacts would be removed at the provider; 960 would stay\./, 'all of them, before the first one is removed');
sql(q{CREATE OR REPLACE VIEW shrinks_view AS SELECT * FROM shrinks WHERE person > 120; SELECT contactsync_resume('shrinks_view', 'shrinks', removals => 'kept');
	SELECT contactsync_reconcile('shrinks_view', 'shrinks'); CALL contactsync_wait('shrinks')});
is(state('shrinks') . contacts('shrinks'), 'idle1080', 'if it was a mistake they stay');
sql(q{UPDATE shrinks SET person = 3000, updated_at = now() WHERE id = 200; CREATE OR REPLACE VIEW shrinks_view AS SELECT * FROM shrinks WHERE false; SELECT contactsync_reconcile('shrinks_view', 'shrinks')});
wait_for_guard('shrinks');
is(contacts('shrinks'), 1080, 'a view that is empty removes nobody');

# ---------- unsubscribing ----------

create_server($node, $sandbox, 'campaignlark', account => 'lark', role => 'shop', server => { pace => 1000, burst => 1000 });
sql(q{
	CREATE TABLE lark (id int PRIMARY KEY, email text, opt_in bool);
	SELECT contactsync_watch('lark', 'lark', '{"email": "email", "opt_in": "opt_in"}', on_delete => 'unsubscribe', delete_delay => '0');
	INSERT INTO lark SELECT g, format('l%s@example.com', g), true FROM generate_series(1, 30) g;
	CALL contactsync_wait('lark');
	TRUNCATE lark});
wait_for_guard('lark');
is((grep { $_->{status} eq 'SUBSCRIBED' } @{ $sandbox->contacts('campaignlark', account => 'lark') }), 30, 'unsubscribing all contacts is held');
is(sql(q{SELECT DISTINCT removal FROM contactsync.changes WHERE server = 'lark'}), 'unsubscribe', 'changes shows what is to be done');
sql(q{SELECT contactsync_resume('lark', 'lark', removals => 'accepted'); CALL contactsync_wait('lark')});
wait_for_removals('lark');
is((grep { $_->{status} eq 'SUBSCRIBED' } @{ $sandbox->contacts('campaignlark', account => 'lark') }), 0, 'and done by a word');

# ---------- what status counts ----------

# removals that wait until all rows were read
create_server($node, $sandbox, 'mailingcore', account => 'waits', role => 'shop');
sql(q{
	CREATE TABLE waits (id int PRIMARY KEY, opt_in bool);
	INSERT INTO waits VALUES (1, true), (2, true);
	SELECT contactsync_watch('waits', 'waits', '{"email": "format(''w%s@example.com'', id)", "external_id": "id"}', on_delete => 'delete', delete_delay => '0');
	INSERT INTO waits VALUES (3, true);
	CALL contactsync_wait('waits');
	DELETE FROM waits WHERE id = 3});
wait_until(q{SELECT reason LIKE 'removals wait%' FROM contactsync.status WHERE server = 'waits'}, 'the reason');
is(sql(q{SELECT state, backlog, hint FROM contactsync.status WHERE server = 'waits'}), q{idle|0|SELECT contactsync_reconcile('waits', 'waits'); reads all rows.}, 'status says what a removal waits for, and what to type');
sql(q{SELECT contactsync_reconcile('waits', 'waits'); CALL contactsync_wait('waits')});
wait_for_removals('waits');
is(contacts('waits') . sql(q{SELECT reason FROM contactsync.status WHERE server = 'waits'}), '2', 'then it is removed');

# a contact that follows its row to another address leaves nothing to be removed
create_server($node, $sandbox, 'owlat', account => 'follows', role => 'shop', server => { on_email_change => 'follow' });
sql(q{
	CREATE TABLE follows (id int PRIMARY KEY, email text, name text DEFAULT 'A');
	SELECT contactsync_watch('follows', 'follows', '{"email": "email", "first_name": "name"}', on_delete => 'delete', delete_delay => '0');
	INSERT INTO follows VALUES (1, 'before@example.com');
	CALL contactsync_wait('follows');
	UPDATE follows SET email = 'after@example.com';
	CALL contactsync_wait('follows')});
wait_for_removals('follows');
is(state('follows') . join(' ', map { $_->{email} } @{ $sandbox->contacts('owlat', account => 'follows') }), 'idleafter@example.com', 'a contact that follows its row leaves nothing to be removed');

# a contact whose row has gone to the contact of another row is removed
sql(q{INSERT INTO follows VALUES (2, 'taken@example.com', 'B'); CALL contactsync_wait('follows');
	UPDATE follows SET email = 'taken@example.com' WHERE id = 1; CALL contactsync_wait('follows')});
wait_for_removals('follows');
is(join(' ', map { $_->{email} } @{ $sandbox->contacts('owlat', account => 'follows') }), 'taken@example.com', 'a contact does not follow to an address that has a contact, but is removed');

# a claim that is held, and a contact that is withheld
$sandbox->call('POST', 'mailingcore/contacts', { account => 'waits', contacts => [ { email => 'w2@example.com', externalId => '2', optIn => JSON::PP::true } ] });
sql(q{SELECT contactsync_alter_watch('waits', 'waits', mapping => '{"email": "format(''w%s@example.com'', id)", "external_id": "id", "opt_in": "opt_in"}'),
	contactsync_reconcile('waits', 'waits'); CALL contactsync_wait('waits')});
is(sql(q{SELECT held = (SELECT count(*) FROM contactsync.contacts c WHERE c.server = 'waits' AND consent = 'held'), held > 0, withheld FROM contactsync.status WHERE server = 'waits'}), 't|t|0', 'status counts contacts whose claim is held');
sql(q{SELECT contactsync_reconcile('waits', 'waits', claims => 'all'); CALL contactsync_wait('waits')});
is(sql(q{SELECT held FROM contactsync.status WHERE server = 'waits'}), '0', 'until it is claimed');
create_server($node, $sandbox, 'spotzee', account => 'zee', role => 'shop');
sql(q{
	CREATE TABLE zee (id int PRIMARY KEY, opt_in bool);
	SELECT contactsync_watch('zee', 'zee', '{"email": "format(''z%s@example.com'', id)", "external_id": "id", "opt_in": "opt_in"}');
	INSERT INTO zee VALUES (1, true), (2, false), (3, NULL);
	CALL contactsync_wait('zee')});
is(sql(q{SELECT held, withheld FROM contactsync.status WHERE server = 'zee'}) . contacts('zee', 'spotzee'), '0|21', 'status counts rows whose contact is withheld');
sql(q{UPDATE zee SET opt_in = true WHERE id = 2; DELETE FROM zee WHERE id = 3; CALL contactsync_wait('zee')});
is(sql(q{SELECT withheld FROM contactsync.status WHERE server = 'zee'}), '0', 'until they consent, or go');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log contains no crash');
done_testing();
