# Related tables: what is changed in a table that a mapping uses reaches the contacts of the rows that use it, whoever changes
# it, however many these are, and whatever goes wrong meanwhile.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('restart_after_crash' => 'on', 'max_prepared_transactions' => 4, 'contactsync.clock_speed' => $speed);

# the watches are a role's that owns nothing but its servers and tables, and another one changes the tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', join('', @_), extra_params => [ '-U', 'shop' ]); }
sub app { return $node->safe_psql('postgres', join('', @_), extra_params => [ '-U', 'app' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }

# Wait until nothing of a server is queued or in flight.
sub sent
{
	my ($name) = @_;

	wait_until(
		qq{SELECT NOT EXISTS (SELECT FROM contactsync.queue q JOIN contactsync.endpoint e ON e.id = q.endpoint WHERE e.server = '$name')
			AND (SELECT max(in_flight) = 0 FROM contactsync.status WHERE server = '$name')}, "changes of $name");
	return;
}

# Return the contacts at the provider as "id value" in the order of ids, and how many contacts were sent since the last call.
my %seen;

sub remote
{
	my ($name, $attribute) = @_;

	sent($name);
	return join(', ', map { "$_->[0] $_->[1]" } sort { $a->[0] <=> $b->[0] }
		map { [ $_->{externalId}, $_->{attributes}{$attribute} // 'null' ] } @{ $sandbox->contacts('mailingcore', account => $name) });
}

sub arrived
{
	my ($name) = @_;

	sent($name);
	my @journal = @{ $sandbox->journal('mailingcore', account => $name) };
	my @keys = sort { $a <=> $b } grep { !/@/ } map { @{ $_->{keys} // [] } } @journal[ ($seen{$name} // 0) .. $#journal ];
	$seen{$name} = @journal;
	return join(' ', @keys);
}

sub create
{
	my ($name, %server) = @_;

	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop', server => { pace => 1000, burst => 1000, %server });
	return;
}

# ---------- every kind of change ----------

create('crm');
sql(q{
	CREATE TABLE address (id int PRIMARY KEY, city text, note text);
	CREATE TABLE orders (id int PRIMARY KEY, member int, total numeric);
	CREATE TABLE customers (id int PRIMARY KEY, email text, address_id int, plan text);
	CREATE INDEX ON customers (address_id);
	GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON address, orders TO app;
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {
			"city": "coalesce((SELECT a.city FROM address a WHERE a.id = address_id), ''none'')",
			"spent": "(SELECT sum(o.total) FROM orders o WHERE o.member = customers.id)"}}',
		related => '{"address": "address_id", "orders": {"id": "member"}}');
	INSERT INTO address SELECT g, 'c' || g FROM generate_series(1, 3) g;
	INSERT INTO customers SELECT g, format('c%s@example.com', g), (g - 1) / 2 + 1 FROM generate_series(1, 6) g});
is(remote('crm', 'city'), '1 c1, 2 c1, 3 c2, 4 c2, 5 c3, 6 c3', 'the table is mirrored');
arrived('crm');

is(app(q{SELECT has_table_privilege('customers', 'SELECT'), has_table_privilege('contactsync.queue', 'SELECT')}), 'f|f', 'a role without rights on the source');
app(q{UPDATE address SET city = 'C1' WHERE id = 1});
is(arrived('crm'), '1 2', 'changes a row that two rows use');
is(remote('crm', 'city'), '1 C1, 2 C1, 3 c2, 4 c2, 5 c3, 6 c3', 'and both have the new value');
app(q{UPDATE address SET note = 'x'; UPDATE address SET city = city});
is(arrived('crm'), '', 'what the mapping does not use sends nothing');
app(q{DELETE FROM address WHERE id = 2});
is(arrived('crm'), '3 4', 'a row is deleted');
app(q{INSERT INTO address VALUES (2, 'again')});
is(remote('crm', 'city'), '1 C1, 2 C1, 3 again, 4 again, 5 c3, 6 c3', 'and inserted again');
arrived('crm');
app(q{UPDATE address SET id = id + 1 WHERE id = 3});
sql(q{UPDATE customers SET address_id = 4 WHERE id = 6});
is(remote('crm', 'city'), '1 C1, 2 C1, 3 again, 4 again, 5 none, 6 c3', 'its key changes: the old and the new one count');
arrived('crm');
app(q{INSERT INTO orders VALUES (1, 1, 10), (2, 1, 5), (3, 5, 1), (4, NULL, 1), (5, 99, 1)});
is(arrived('crm'), '1 5', 'many rows of the related table for one of the source');
is(remote('crm', 'spent'), '1 15, 2 null, 3 null, 4 null, 5 1, 6 null', 'the sum of them');
app(q{UPDATE orders SET member = 2 WHERE id = 1});
is(remote('crm', 'spent'), '1 5, 2 10, 3 null, 4 null, 5 1, 6 null', 'one that is now for another row');
arrived('crm');
app(q{TRUNCATE orders});
is(arrived('crm'), '1 2 5', 'TRUNCATE');
app(q{BEGIN; UPDATE address SET city = 'no'; ROLLBACK;
	BEGIN; SAVEPOINT a; UPDATE address SET city = 'no' WHERE id = 1; ROLLBACK TO a; UPDATE address SET city = 'yes' WHERE id = 2; COMMIT});
is(arrived('crm'), '3 4', 'what was rolled back sends nothing');
app(q{BEGIN; UPDATE address SET city = 'prepared' WHERE id = 1; PREPARE TRANSACTION 'one'; BEGIN; UPDATE address SET city = 'lost' WHERE id = 2; PREPARE TRANSACTION 'two'});
app(q{INSERT INTO orders VALUES (9, 6, 1)});
is(arrived('crm'), '6', 'a prepared transaction is waited for');
app(q{COMMIT PREPARED 'one'; ROLLBACK PREPARED 'two'});
is(arrived('crm'), '1 2', 'until it is committed');
is(admin(q{SELECT count(*) FROM contactsync.failures}), '0', 'nothing has failed');

# rows that replication applies
sql(q{SELECT contactsync_alter_watch('customers', 'crm', always => true)});
admin(q{SET session_replication_role = replica; UPDATE address SET city = 'applied' WHERE id = 2});
is(arrived('crm'), '3 4', 'rows that replication applies count with always');
sql(q{SELECT contactsync_alter_watch('customers', 'crm', always => false)});
admin(q{SET session_replication_role = replica; UPDATE address SET city = 'unseen' WHERE id = 2});
is(arrived('crm'), '', 'and without it they do not');

# ---------- many rows that use one ----------

# 50 contacts a call, one call at a time
create('bulk', batch_size => 50, concurrency => 1);
sql(q{
	CREATE TABLE shop (id int PRIMARY KEY, name text);
	CREATE TABLE visitors (id int PRIMARY KEY, email text, shop int);
	CREATE INDEX ON visitors (shop);
	GRANT SELECT, UPDATE ON shop TO app;
	INSERT INTO shop SELECT g, 's' || g FROM generate_series(1, 300) g;
	INSERT INTO visitors SELECT g, format('v%s@example.com', g), CASE WHEN g <= 50000 THEN 1 ELSE g - 50000 END FROM generate_series(1, 50300) g;
	SELECT contactsync_watch('visitors', 'bulk', '{"email": "email", "external_id": "id", "attributes": {"shop": "(SELECT name FROM shop s WHERE s.id = shop)"}}',
		related => '{"shop": "shop"}', filter => 'id % 100 = 0 OR id > 50000')});
admin(q{ANALYZE visitors});
sql(q{SELECT contactsync_import('visitors', 'bulk')});
wait_until(q{SELECT s.state = 'done' FROM contactsync.scan s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE e.server = 'bulk'}, 'the import');
sent('bulk');
is($sandbox->count('mailingcore', account => 'bulk')->{contacts}, 800, 'the filter lets 800 pass');
sql(q{SELECT contactsync_pause('bulk')});
app(q{UPDATE shop SET name = 'S1' WHERE id = 1});
is(admin(q{SELECT string_agg(concat_ws(' ', n, keys, related IS NOT NULL), ', ') FROM contactsync.queue}), '1 {1} t', 'a row that 50,001 use queues one key');
my $cost = q{
	DO $$ DECLARE at timestamptz; a interval; b interval;
	BEGIN
		at := clock_timestamp();
		FOR i IN 1 .. 200 LOOP UPDATE shop SET name = name || 'x' WHERE id = 1; END LOOP;
		a := clock_timestamp() - at; at := clock_timestamp();
		FOR i IN 1 .. 200 LOOP UPDATE shop SET name = name || 'x' WHERE id = 2; END LOOP;
		b := clock_timestamp() - at;
		RAISE NOTICE 'used by 50001: %, used by 2: %', a, b;
	END $$};
{
	my $stderr;
	$node->psql('postgres', $cost, stderr => \$stderr, extra_params => [ '-U', 'app' ]);
	note($stderr);
}
is(admin(q{SELECT sum(n) FROM contactsync.queue}), '3', 'and the next transaction one for each row that it changes');
app(q{UPDATE shop SET name = 'S1' WHERE id = 1; UPDATE shop SET name = 'S2' WHERE id = 2});
$seen{bulk} = @{ $sandbox->journal('mailingcore', account => 'bulk') };

# hold the worker within the rows that use it, and make a live change
$sandbox->fault('mailingcore', { times => 1, match => { account => 'bulk', key => '20000' }, action => { stall => \1 } });
sql(q{SELECT contactsync_resume('bulk')});
$sandbox->wait_for_journal('mailingcore', sub { grep { grep { $_ eq '20000' } @{ $_->{keys} // [] } } @_ }, account => 'bulk');
isnt(admin(q{SELECT count(*) FROM contactsync.queue WHERE related IS NOT NULL AND cursor IS NOT NULL}), '0', 'the rows are found a page at a time');
cmp_ok(admin(q{SELECT sum(n) FROM contactsync.queue}), '<', 20000, 'and the queue is not filled with them');
sql(q{UPDATE visitors SET email = 'live@example.com' WHERE id = 50300});
flush_wal($node);
crash_worker($node, 'postgres');
$sandbox->clear_faults('mailingcore');
sent('bulk');
{
	my %latest = map { $_->{externalId} => $_->{attributes}{shop} } @{ $sandbox->contacts('mailingcore', account => 'bulk') };
	my @wrong = grep { $latest{$_} ne 'S1' } grep { $_ % 100 == 0 } 1 .. 50000;
	is("@wrong[0 .. ($#wrong > 5 ? 5 : $#wrong)]", '', 'after a crash within them, all of them arrive');
	is("$latest{50001} $latest{50002} $latest{50003}", 'S1 S2 s3', 'and no others');
	my @keys = map { @{ $_->{keys} // [] } } @{ $sandbox->journal('mailingcore', account => 'bulk') };
	@keys = grep { !/@/ } @keys[ 0 .. $#keys ];
	my ($live) = grep { $keys[$_] eq '50300' } reverse 0 .. $#keys;
	my ($last) = grep { $keys[$_] eq '50000' } reverse 0 .. $#keys;
	cmp_ok($live, '<', $last, 'a live change does not wait for all of them');
}
is(admin(q{SELECT count(*) FROM contactsync.failures WHERE server = 'bulk'}), '0', 'nothing has failed');

# ---------- consent ----------

# A row that said no and was filtered out comes back by a change of the related table, and cannot be found yet, while a row of another
# table says yes.
create('wishes');
sql(q{
	CREATE TABLE club (id int PRIMARY KEY, open boolean);
	CREATE TABLE members (id int PRIMARY KEY, email text, club int, wants boolean);
	CREATE TABLE guests (LIKE members INCLUDING ALL);
	CREATE INDEX ON members (club);
	INSERT INTO club VALUES (1, true);
	SELECT contactsync_watch('members', 'wishes', '{"email": "email", "opt_in": "wants"}', filter => '(SELECT open FROM club c WHERE c.id = club)',
		claims => 'all', on_delete => 'ignore', related => '{"club": "club"}');
	SELECT contactsync_watch('guests', 'wishes', '{"email": "email", "opt_in": "wants"}', claims => 'all', on_delete => 'ignore');
	INSERT INTO members VALUES (1, 'x@example.com', 1, false)});
sent('wishes');
sql(q{UPDATE club SET open = false});
sent('wishes');
# What was sent of an address.
sub bodies { my ($email) = @_; return map { ($_->{body} // '') =~ /(\{[^{}]*"\Q$email\E"[^{}]*\})/g } @{ $sandbox->journal('mailingcore', account => 'wishes') }; }
{
	my $locker = $node->background_psql('postgres', extra_params => [ '-U', 'shop' ]);
	$locker->query_safe('BEGIN; LOCK TABLE members');
	sql(q{UPDATE club SET open = true});
	sql(q{INSERT INTO guests VALUES (1, 'x@example.com', NULL, true), (2, 'y@example.com', NULL, true)});
	wait_for('a row that is new', sub { bodies('y@example.com') });
	is(scalar(grep { /"optIn":\s*true/ } bodies('x@example.com')), 0, 'a row that says yes waits while one that said no may come back, and cannot be found yet');
	$locker->query_safe('COMMIT');
	$locker->quit;
}
sent('wishes');
is(scalar(grep { /"optIn":\s*true/ } bodies('y@example.com')), 1, '... which is claimed if no other row said no');
is(scalar(grep { /"optIn":\s*true/ } bodies('x@example.com')), 0, '... but not beside the one that comes back');

# ---------- a filter, and rows whose contacts are removed ----------

create('removed');
sql(q{
	CREATE TABLE firm (id int PRIMARY KEY, active boolean);
	CREATE TABLE staff (id int PRIMARY KEY, email text, firm int);
	CREATE INDEX ON staff (firm);
	INSERT INTO firm VALUES (1, true), (2, true), (3, true);
	INSERT INTO staff SELECT g, format('s%s@example.com', g), g % 3 + 1 FROM generate_series(1, 6) g;
	SELECT contactsync_watch('staff', 'removed', '{"email": "email", "external_id": "id"}', filter => '(SELECT active FROM firm f WHERE f.id = firm)',
		on_delete => 'delete', delete_delay => '0', delete_guard => 'off', related => '{"firm": "firm"}');
	SELECT contactsync_import('staff', 'removed')});
sub exactly { my ($n) = @_; wait_for("$n contacts", sub { @{ $sandbox->contacts('mailingcore', account => 'removed') } == $n }); return; }
exactly(6);
wait_until(q{SELECT NOT EXISTS (SELECT FROM contactsync.scan WHERE state = 'running')}, 'the import');
sql(q{UPDATE firm SET active = false WHERE id = 2});
exactly(4);
is(join(' ', sort map { $_->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'removed') }), '2 3 5 6', 'rows that do not pass the filter any more are removed');
sql(q{UPDATE firm SET active = true WHERE id = 2});
exactly(6);
pass('and come back');
sql(q{TRUNCATE firm});
exactly(0);
pass('TRUNCATE of the related table removes all of them');
sql(q{INSERT INTO firm SELECT g, true FROM generate_series(1, 3) g});
exactly(6);
pass('and rows that are not known any more are found');

# ---------- consent ----------

# a change of a related row is a word only if opt_in turns by it
create('consent');
sql(q{
	CREATE TABLE pref (id int PRIMARY KEY, mail boolean, theme text);
	CREATE TABLE person (id int PRIMARY KEY, email text, pref int);
	CREATE INDEX ON person (pref);
	INSERT INTO pref VALUES (1, false, 'a'), (2, false, 'a');
	SELECT contactsync_watch('person', 'consent', '{"email": "email", "external_id": "id", "opt_in": "(SELECT mail FROM pref p WHERE p.id = pref)",
		"attributes": {"theme": "(SELECT theme FROM pref p WHERE p.id = pref)"}}', related => '{"pref": "pref"}');
	INSERT INTO person VALUES (1, 'p1@example.com', 1), (2, 'p2@example.com', 2)});
sent('consent');

sub claimed { return admin(q{SELECT string_agg(c.key || ' ' || c.claimed, ', ' ORDER BY c.key) FROM contactsync.contact c JOIN contactsync.endpoint e ON e.id = c.endpoint WHERE e.server = 'consent'}); }
is(claimed(), '1 false, 2 false', 'nobody has said yes');
sql(q{UPDATE pref SET theme = 'b'});
sent('consent');
is(claimed(), '1 false, 2 false', 'a change of the related row is no word');
sql(q{UPDATE pref SET mail = true WHERE id = 1});
sent('consent');
is(claimed(), '1 true, 2 false', 'unless opt_in turns by it');
sql(q{UPDATE pref SET mail = false WHERE id = 1});
sent('consent');
is(claimed(), '1 false, 2 false', 'and back');

# the same histories of rows that share an address, told by columns of the source and by related rows, have the same outcome
create('plain');
create('told');
sql(q{
	CREATE TABLE plain (id int PRIMARY KEY, email text, wants boolean, mail boolean);
	CREATE TABLE told (id int PRIMARY KEY, email text, wants boolean, pref int);
	CREATE INDEX ON told (pref);
	CREATE TABLE told_pref (id int PRIMARY KEY, mail boolean);
	SELECT contactsync_watch('plain', 'plain', '{"email": "email", "opt_in": "wants AND mail"}');
	SELECT contactsync_watch('told', 'told', '{"email": "email", "opt_in": "wants AND (SELECT mail FROM told_pref p WHERE p.id = pref)"}', related => '{"told_pref": "pref"}')});
my $person = 0;
my @histories;
foreach my $start ([ 'true, true', 'true, false' ], [ 'true, true', 'false, true' ], [ 'true, false', 'false, true' ], [ 'true, false', 'true, false' ])
{
	foreach my $change (
		[ 'mail 1 false', 'wants 2 true' ], [ 'wants 2 true', 'mail 1 false' ], [ 'mail 1 false', 'mail 2 true' ], [ 'mail 2 true', 'mail 1 false' ],
		[ 'mail 1 true', 'wants 2 false' ], [ 'wants 1 false', 'mail 2 true' ], [ 'mail 1 false' ], [ 'mail 1 true' ], [ 'mail 2 true' ])
	{
		push @histories, [ ++$person, $start, $change, $_ ] foreach @$change > 1 ? (1, 2) : (1);
	}
}
foreach my $table ('plain', 'told')
{
	my @steps = ([], [], []);

	foreach my $history (@histories)
	{
		my ($n, $start, $change, $transactions) = @$history;

		foreach my $row (1, 2)
		{
			my ($id, $values) = (10 * $n + $row, $start->[ $row - 1 ]);
			my ($wants, $mail) = split(/, /, $values);

			push @{ $steps[0] }, $table eq 'plain' ? "INSERT INTO plain VALUES ($id, 'h$n\@example.com', $wants, $mail)"
			  : ("INSERT INTO told_pref VALUES ($id, $mail)", "INSERT INTO told VALUES ($id, 'h$n\@example.com', $wants, $id)");
		}
		my @change = map { my ($column, $row, $value) = split / /; my $id = 10 * $n + $row;
			$table eq 'told' && $column eq 'mail' ? "UPDATE told_pref SET mail = $value WHERE id = $id" : "UPDATE $table SET $column = $value WHERE id = $id" } @$change;
		push @{ $steps[1] }, $transactions == 1 ? ('BEGIN', @change, 'COMMIT') : $change[0];
		push @{ $steps[2] }, $change[1] if $transactions == 2;
	}
	foreach (@steps)
	{
		sql("SELECT contactsync_pause('$table', '$table')");
		sql(join(';', @$_));
		sql("SELECT contactsync_resume('$table', '$table')");
		sent($table);
	}
}
sub outcomes { return admin(qq{SELECT string_agg(concat_ws(' ', upsert_key, opt_in, claimed), ', ' ORDER BY upsert_key) FROM contactsync.contact c JOIN contactsync.endpoint e ON e.id = c.endpoint WHERE e.server = '$_[0]'}); }
is(outcomes('told'), outcomes('plain'), 'yes and no of one person have the same outcome, whichever table says so');

sub felt
{
	my ($account) = @_;
	my @contacts = map { my %contact = %$_; delete @contact{qw(id externalId projectId createdAt updatedAt)}; \%contact } @{ $sandbox->contacts('mailingcore', account => $account) };

	return JSON::PP->new->canonical->encode([ sort { $a->{email} cmp $b->{email} } @contacts ]);
}
is(felt('told') =~ s/"[a-zA-Z]*At":"[^"]*",?//gr, felt('plain') =~ s/"[a-zA-Z]*At":"[^"]*",?//gr, 'at the provider as well');

# ---------- many contacts at once that could set off mail ----------

create_server($node, $sandbox, 'caramel', account => 'guarded', role => 'shop', server => { pace => 1000, burst => 1000, bulk_guard => 20 });
sql(q{
	CREATE TABLE team (id int PRIMARY KEY, name text);
	CREATE TABLE member (id int PRIMARY KEY, email text, team int);
	CREATE INDEX ON member (team);
	INSERT INTO team VALUES (1, 'a'), (2, 'a');
	INSERT INTO member SELECT g, format('m%s@example.com', g), CASE WHEN g > 290 THEN 2 ELSE 1 END FROM generate_series(1, 300) g;
	SELECT contactsync_watch('member', 'guarded', '{"email": "email", "first_name": "(SELECT name FROM team t WHERE t.id = team)"}', related => '{"team": "team"}');
	UPDATE team SET name = 'b' WHERE id = 2});
$sandbox->wait_for_contacts('caramel', 10, account => 'guarded');
sql(q{UPDATE team SET name = 'b' WHERE id = 1});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'guarded' AND source = 'member'::regclass}, 'the guard');
is(scalar @{ $sandbox->contacts('caramel', account => 'guarded') }, 10, 'the guard closes before the first call of many');
sql(q{SELECT contactsync_resume('member', 'guarded', automations => 'accepted')});
$sandbox->wait_for_contacts('caramel', 300, account => 'guarded');
pass('and what was let go includes rows that are found later');

# ---------- DDL ----------

create('ddl');
sql(q{
	CREATE TABLE city (id int PRIMARY KEY, name text);
	CREATE TABLE town (id int PRIMARY KEY, email text, city int);
	CREATE INDEX ON town (city);
	INSERT INTO city VALUES (1, 'a'), (2, 'b');
	SELECT contactsync_watch('town', 'ddl', '{"email": "email", "external_id": "id", "attributes": {"city": "(SELECT name FROM city c WHERE c.id = city)"}}', related => '{"city": "city"}');
	INSERT INTO town SELECT g, format('t%s@example.com', g), g % 2 + 1 FROM generate_series(1, 4) g});
is(remote('ddl', 'city'), '1 b, 2 a, 3 b, 4 a', 'before');
arrived('ddl');
sub state_of { return admin(qq{SELECT state || ': ' || coalesce(reason, '') FROM contactsync.status WHERE server = 'ddl' AND source IS NOT NULL}); }
sub wait_for_state { my ($state) = @_; wait_until("SELECT state = '$state' FROM contactsync.status WHERE server = 'ddl' AND source IS NOT NULL", "state $state"); return; }

# the key column is followed; a mapping that names it in a subquery is not, and holds the watch
sql(q{ALTER TABLE city RENAME id TO city_id});
wait_for_state('broken');
like(state_of(), qr/column c\.id does not exist/, 'a column that a subquery uses was renamed');
sql(q{UPDATE city SET name = 'A' WHERE city_id = 1});
is(admin(q{SELECT related || ' ' || key FROM contactsync.changes WHERE server = 'ddl'}), 'city 1', 'changes wait');
sql(q{SELECT contactsync_alter_watch('town', 'ddl', mapping => '{"email": "email", "external_id": "id", "attributes": {"city": "(SELECT name FROM city c WHERE c.city_id = city)"}}')});
is(remote('ddl', 'city'), '1 b, 2 A, 3 b, 4 A', 'and are sent when it is corrected');
arrived('ddl');
# the type of the column by which rows are related
sql(q{SELECT contactsync_pause('town', 'ddl'); UPDATE city SET name = 'AA' WHERE city_id = 1; ALTER TABLE city ALTER city_id TYPE text;
	SELECT contactsync_resume('town', 'ddl')});
wait_for_state('broken');
like(state_of(), qr/column "city" is of type integer, but column "city_id" of related table "city" is of type text|operator does not exist/, 'a type that cannot be compared holds it');
sql(q{ALTER TABLE city ALTER city_id TYPE bigint USING city_id::bigint});
is(remote('ddl', 'city'), '1 b, 2 AA, 3 b, 4 AA', 'until it can be');
arrived('ddl');
# no more related, while changes are queued
sql(q{SELECT contactsync_pause('town', 'ddl'); UPDATE city SET name = 'B' WHERE city_id = 2; SELECT contactsync_alter_watch('town', 'ddl', related => '{}');
	UPDATE city SET name = 'unseen' WHERE city_id = 1; SELECT contactsync_resume('town', 'ddl')});
is(remote('ddl', 'city'), '1 B, 2 unseen, 3 B, 4 unseen', 'what was queued for a table that is not related any more has all known rows looked at');
sql(q{SELECT contactsync_alter_watch('town', 'ddl', related => '{"city": "city"}')});
# the table is dropped, and created again
sql(q{UPDATE town SET email = 'x@example.com' WHERE id = 1});
sent('ddl');
arrived('ddl');
sql(q{DROP TABLE city});
wait_for_state('broken');
sql(q{CREATE TABLE city (city_id int PRIMARY KEY, name text); INSERT INTO city VALUES (1, 'new'), (2, 'new')});
wait_until(q{SELECT reason LIKE 'related table "city" does not exist any more%' FROM contactsync.status WHERE server = 'ddl' AND source IS NOT NULL}, 'the reason');
pass('a dropped table holds the watch and says why');
sql(q{SELECT contactsync_alter_watch('town', 'ddl', related => '{"city": "city"}'); UPDATE city SET name = 'newer' WHERE city_id = 1});
is(arrived('ddl'), '2 4', 'another one by its name is related by contactsync_alter_watch()');
# ... or it is not needed any more: what the hint of status says, with a mapping and related tables instead of the dots
sql(q{DROP TABLE city; UPDATE town SET email = 'y@example.com' WHERE id = 1});
wait_for_state('broken');
my ($typed) = sql(q{SELECT hint FROM contactsync.status WHERE server = 'ddl' AND source IS NOT NULL}) =~ /(SELECT contactsync_alter_watch\(.*\))/;
$typed =~ s/mapping => '\.\.\.'/mapping => '{"email": "email", "external_id": "id"}'/;
$typed =~ s/related => '\.\.\.'/related => '{}'/;
sql($typed);
wait_until(q{SELECT state <> 'broken' FROM contactsync.status WHERE server = 'ddl' AND source IS NOT NULL}, 'the watch to go on');
sent('ddl');
is((grep { $_->{externalId} eq '1' } @{ $sandbox->contacts('mailingcore', account => 'ddl') })[0]{email}, 'y@example.com', 'what the hint of a dropped table says has the watch go on without it');
sql(q{CREATE TABLE city (city_id int PRIMARY KEY, name text); INSERT INTO city VALUES (1, 'new'), (2, 'new');
	SELECT contactsync_alter_watch('town', 'ddl', mapping => '{"email": "email", "external_id": "id", "attributes": {"city": "(SELECT name FROM city c WHERE c.city_id = city)"}}',
		related => '{"city": "city"}')});

# ---------- what others have locked ----------

{
	my $locker = $node->background_psql('postgres', extra_params => [ '-U', 'shop' ]);
	$locker->query_safe('BEGIN; LOCK TABLE town');
	sql(q{UPDATE city SET name = 'locked' WHERE city_id = 2});
	app(q{UPDATE address SET city = 'free' WHERE id = 1});
	is(remote('crm', 'city') =~ /^1 free/, 1, 'a source that is locked holds up no other');
	$locker->query_safe('COMMIT');
	$locker->quit;
}
is(remote('ddl', 'city'), '1 locked, 2 newer, 3 locked, 4 newer', 'and what changed is sent when it is not');

# ---------- finding the rows takes too long ----------

# to see whether a row of this view refers to the table takes 10 ms
create('slow');
sql(q{
	CREATE TABLE tariff (id int PRIMARY KEY, name text);
	CREATE TABLE slow_base (id int PRIMARY KEY, email text, tariff int, at timestamptz);
	CREATE FUNCTION nap(int) RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN $1; END';
	CREATE VIEW slow AS SELECT id, email, nap(tariff) AS tariff, at FROM slow_base;
	INSERT INTO tariff VALUES (1, 'a');
	INSERT INTO slow_base SELECT g, format('l%s@example.com', g), 1, '2020-01-01' FROM generate_series(1, 200) g;
	SELECT contactsync_watch('slow', 'slow', '{"email": "email", "external_id": "id", "attributes": {"tariff": "(SELECT name FROM tariff t WHERE t.id = tariff)"}}',
		key => '{id}', capture => 'poll', poll_column => 'at', poll_every => '1 day', related => '{"tariff": "tariff"}')});
admin(q{ALTER SYSTEM SET contactsync.source_timeout = '500ms'; SELECT pg_reload_conf()});
sql(q{UPDATE tariff SET name = 'b' WHERE id = 1});
wait_until(q{SELECT reason LIKE '%finding those that use table "tariff" took longer than contactsync.source_timeout; an index%' FROM contactsync.status WHERE server = 'slow' AND source IS NOT NULL}, 'the reason');
pass('status says that finding the rows takes too long');
sql(q{SELECT contactsync_touch('slow', 'slow', 7)});
$sandbox->wait_for_contacts('mailingcore', 1, account => 'slow');
is($sandbox->contacts('mailingcore', account => 'slow')->[0]{externalId}, '7', 'which holds up no other row');
admin(q{ALTER SYSTEM RESET contactsync.source_timeout; SELECT pg_reload_conf()});
$sandbox->wait_for_contacts('mailingcore', 200, account => 'slow');
pass('and it is tried again');

# ---------- a source that is polled ----------

create('polled');
sql(q{
	CREATE TABLE base (id int PRIMARY KEY, email text, firm int, at timestamptz DEFAULT now());
	INSERT INTO base SELECT g, format('b%s@example.com', g), 1 FROM generate_series(1, 3) g;
	CREATE VIEW joined AS SELECT b.id, b.email, b.firm, b.at, f.active FROM base b JOIN firm f ON f.id = b.firm;
	SELECT contactsync_watch('joined', 'polled', '{"email": "email", "external_id": "id", "attributes": {"active": "active"}}', key => '{id}',
		capture => 'poll', poll_column => 'at', poll_every => '1 day', related => '{"firm": "firm", "base": {"id": "id"}}');
	INSERT INTO base VALUES (4, 'b4@example.com', 1);
	UPDATE firm SET active = false WHERE id = 1});
is(remote('polled', 'active') =~ s/JSON::PP::Boolean//gr, '1 0, 2 0, 3 0, 4 0', 'tables that a view is made of tell of changes at once');

# ---------- the definition in a dump ----------

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->safe_psql('postgres', q{SELECT contactsync_pause('ddl')});
sql(q{UPDATE city SET name = 'dumped' WHERE city_id = 1});
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', 'restored', $dump ], 'pg_restore');
my $kept = q{SELECT string_agg(source || ' ' || related::text, '; ' ORDER BY source::text) FROM contactsync.watches WHERE related IS NOT NULL};
is($node->safe_psql('restored', $kept), admin($kept), 'the related tables are dumped');
my $triggers = q{SELECT string_agg(tgrelid::regclass || ' ' || encode(tgargs, 'hex') || ' ' || tgenabled::text, '; ' ORDER BY tgrelid::regclass::text, tgtype, tgargs) FROM pg_trigger WHERE tgfoid = 'contactsync.capture_related'::regproc};
is($node->safe_psql('restored', $triggers), admin($triggers), 'with their triggers');
$node->safe_psql('restored', q{UPDATE city SET name = 'restored' WHERE city_id = 2}, extra_params => [ '-U', 'shop' ]);
is($node->safe_psql('restored', q{SELECT string_agg(related || ' ' || key, ', ' ORDER BY key) FROM contactsync.changes WHERE server = 'ddl'}), 'city 1, city 2', 'and what was queued');
$node->safe_psql('restored', q{ALTER TABLE city DROP COLUMN name; ALTER TABLE city ADD name text; SELECT contactsync_resume('ddl')}, extra_params => [ '-U', 'shop' ]);

# ---------- without a worker ----------

$node->safe_psql('postgres', 'DROP DATABASE restored WITH (FORCE)');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->stop;
$node->start;
sql(q{SELECT contactsync_resume('ddl')});
$node->safe_psql('postgres', q{CALL contactsync_run('ddl')}, extra_params => [ '-U', 'shop' ]);
is(remote('ddl', 'city'), '1 locked, 2 dumped, 3 locked, 4 dumped', 'contactsync_run() finds the rows, too');

# ---------- the end ----------

sql(q{SELECT contactsync_unwatch('customers', 'crm'), contactsync_unwatch('joined', 'polled'), contactsync_unwatch('town', 'ddl'), contactsync_unwatch('staff', 'removed')});
is(admin(q{SELECT count(*) FROM pg_trigger WHERE tgfoid = 'contactsync.capture_related'::regproc AND tgrelid IN ('address'::regclass, 'orders'::regclass, 'city'::regclass, 'firm'::regclass, 'base'::regclass)}),
	'0', 'contactsync_unwatch() drops the triggers');
is(admin(q{SELECT count(*) FROM contactsync.related r WHERE NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = r.watch)}), '0', 'and what is stored of related tables');

done_testing();
