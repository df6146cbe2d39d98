# Views whose changes are noticed by triggers on their tables: whatever is changed there, by whomever, the provider comes to have
# what the view has, and nothing else.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $seed = $ENV{CS_SEED} // 7;
srand($seed);
my $sandbox = start_sandbox(clock_speed => 20);
my $node = start_node('restart_after_crash' => 'on', 'contactsync.clock_speed' => 20);

$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', join('', @_), extra_params => [ '-U', 'shop' ]); }
sub app { return $node->safe_psql('postgres', join('', @_), extra_params => [ '-U', 'app' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }

sql(q{
	CREATE TABLE person (id int PRIMARY KEY, name text, firm int, home bigint, chief int) PARTITION BY RANGE (id);
	CREATE TABLE person_1 PARTITION OF person FOR VALUES FROM (0) TO (10);
	CREATE TABLE person_2 PARTITION OF person FOR VALUES FROM (10) TO (1000);
	CREATE TABLE firm (id int PRIMARY KEY, name text, active boolean);
	CREATE TABLE address (id int PRIMARY KEY, city text);
	CREATE TABLE orders (id int PRIMARY KEY, person int, total int);
	CREATE INDEX ON person (firm);
	CREATE INDEX ON person (home);
	CREATE INDEX ON person (chief);
	GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON person, firm, address, orders TO app;

	CREATE VIEW joined AS SELECT p.id, p.name, f.name AS value FROM person p JOIN firm f ON f.id = p.firm WHERE f.active;
	CREATE VIEW counted AS SELECT p.id, p.name, count(o.id) || ' ' || coalesce(sum(o.total), 0) || ' ' || coalesce(max(a.city), '-') AS value
		FROM person p LEFT JOIN address a ON a.id = p.home LEFT JOIN orders o ON o.person = p.id AND o.total > 0 GROUP BY p.id;
	CREATE VIEW led AS SELECT p.id, p.name, c.name || ' ' || (SELECT count(*) FROM orders o WHERE o.person = p.id) AS value
		FROM person p INNER JOIN person c ON c.id = p.chief AND c.id <> p.id;

	INSERT INTO firm SELECT g, 'f' || g, g % 2 = 0 FROM generate_series(1, 5) g;
	INSERT INTO address SELECT g, 'c' || g FROM generate_series(1, 5) g;
	INSERT INTO person SELECT g, 'n' || g, 1 + g % 5, 1 + g % 5, 1 + g % 7 FROM generate_series(1, 20) g;
	INSERT INTO orders SELECT g, 1 + g % 20, g FROM generate_series(1, 30) g});

my %related = (joined => '', counted => '', led => q{, related => '{"orders": {"id": "person"}}'});
foreach my $view (sort keys %related)
{
	create_server($node, $sandbox, 'mailingcore', account => $view, role => 'shop', server => { pace => 1000, burst => 1000 });
	sql(qq{SELECT contactsync_watch('$view', '$view', '{"email": "id || ''\@example.com''", "external_id": "id", "attributes": {"value": "name || '' '' || value"}}', key => '{id}',
		on_delete => 'delete', delete_delay => '0', delete_guard => 'off' $related{$view});
		SELECT contactsync_import('$view', '$view')});
}
is(app(q{SELECT has_table_privilege('joined', 'SELECT')}), 'f', 'the role that changes the tables has no right on the views');

sub remote
{
	my ($view) = @_;

	return join(', ', map { "$_->[0] $_->[1]" } sort { $a->[0] <=> $b->[0] }
		map { [ $_->{externalId}, $_->{attributes}{value} ] } @{ $sandbox->contacts('mailingcore', account => $view) });
}

sub expected { my ($view) = @_; return sql(qq{SELECT string_agg(concat_ws(' ', id, name, value), ', ' ORDER BY id) FROM $view}); }

sub converges
{
	my ($title) = @_;

	foreach my $view (sort keys %related)
	{
		my $expected = expected($view);

		wait_until(
			qq{SELECT NOT EXISTS (SELECT FROM contactsync.queue q JOIN contactsync.endpoint e ON e.id = q.endpoint WHERE e.server = '$view')
				AND NOT EXISTS (SELECT FROM contactsync.departure d JOIN contactsync.endpoint e ON e.id = d.endpoint WHERE e.server = '$view')
				AND NOT EXISTS (SELECT FROM contactsync.scan s WHERE s.state = 'running') AND (SELECT max(in_flight) = 0 FROM contactsync.status WHERE server = '$view')}, $view);
		wait_for("$view: $title", sub { remote($view) eq $expected });
		is(remote($view), $expected, "$view: $title");
	}
	return;
}

converges('imported');

sub any { return $_[ rand @_ ]; }
my ($order, $person) = (100, 30);

# return a statement that changes something
sub change
{
	my ($id, $n) = (1 + int rand 20, 1 + int rand 6);

	return any(
		"UPDATE firm SET active = NOT active WHERE id = $n",
		"UPDATE firm SET name = name || 'x' WHERE id = $n",
		"DELETE FROM firm WHERE id = $n",
		"INSERT INTO firm VALUES ($n, 'again', true) ON CONFLICT DO NOTHING",
		"UPDATE firm SET id = id + 10 WHERE id = $n AND NOT EXISTS (SELECT FROM firm WHERE id = $n + 10)",
		"UPDATE firm SET id = id - 10 WHERE id = $n + 10 AND NOT EXISTS (SELECT FROM firm WHERE id = $n)",
		"UPDATE address SET city = city || 'y' WHERE id = $n",
		"DELETE FROM address WHERE id = $n",
		"INSERT INTO address VALUES ($n, 'new') ON CONFLICT (id) DO UPDATE SET city = 'known'",
		"UPDATE person SET firm = $n WHERE id = $id",
		"UPDATE person SET home = NULLIF($n, 6) WHERE id = $id",
		"UPDATE person SET chief = $n WHERE id = $id",
		"UPDATE person SET name = 'm' || id WHERE id = $id",
		"UPDATE person SET id = id + 20 WHERE id = $id AND NOT EXISTS (SELECT FROM person WHERE id = $id + 20)",
		"UPDATE person SET id = id - 20 WHERE id = $id + 20 AND NOT EXISTS (SELECT FROM person WHERE id = $id)",
		"DELETE FROM person WHERE id = $id",
		"INSERT INTO person VALUES ($id, 'n$id', $n, $n, $n) ON CONFLICT DO NOTHING",
		"INSERT INTO orders VALUES (" . ++$order . ", $id, 5)",
		"UPDATE orders SET person = $id WHERE id % 20 = $n",
		"UPDATE orders SET total = - total WHERE id % 7 = $n",
		"DELETE FROM orders WHERE id % 20 = $id",
		rand() < 0.1 ? 'TRUNCATE orders' : 'SELECT 1');
}

foreach my $round (1 .. 10)
{
	foreach (1 .. 8)
	{
		my @changes = map { change() } 1 .. 1 + int rand 4;

		@changes = ('BEGIN', @changes, any('COMMIT', 'COMMIT', 'ROLLBACK')) if rand() < 0.5;
		app(join('; ', @changes));
	}
	if ($round % 5 == 0)
	{
		flush_wal($node);
		crash_worker($node, 'postgres');
	}
	converges("round $round of seed $seed");
}
app(q{TRUNCATE firm});
converges('TRUNCATE of a table that is joined');
app(q{INSERT INTO firm VALUES (1, 'one', true), (2, 'two', true)});
converges('and rows that come back');
app(q{TRUNCATE person});
converges('TRUNCATE of the table that the key is of');
is(admin(q{SELECT count(*) FROM contactsync.failures}), '0', 'nothing has failed');

# a view that is replaced by one that is made of other tables
app(q{INSERT INTO person VALUES (1, 'n1', 1, 1, 1)});
converges('before');
sql(q{CREATE OR REPLACE VIEW joined AS SELECT p.id, p.name, a.city AS value FROM person p JOIN address a ON a.id = p.home});
wait_until(q{SELECT state = 'broken' FROM contactsync.status WHERE server = 'joined' AND source IS NOT NULL}, 'the watch to break');
like(admin(q{SELECT reason FROM contactsync.status WHERE server = 'joined' AND source IS NOT NULL}), qr/view "joined" is made of tables in another way than before/, 'a view that is made of other tables holds the watch');
app(q{UPDATE person SET name = 'n2'; INSERT INTO address VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET city = 'a'});
sql(q{SELECT contactsync_alter_watch('joined', 'joined'); SELECT contactsync_reconcile('joined', 'joined')});
converges('contactsync_alter_watch() takes it apart again');
app(q{UPDATE address SET city = 'b' WHERE id = 1});
converges('and changes of its tables are noticed');

# renamed columns are followed
sql(q{ALTER TABLE person RENAME home TO place; ALTER TABLE address RENAME id TO address_id; ALTER TABLE orders RENAME person TO of});
app(q{UPDATE address SET city = 'c' WHERE address_id = 1; INSERT INTO orders VALUES (999, 1, 1)});
converges('columns that were renamed');
is(admin(q{SELECT string_agg(state, ' ') FROM contactsync.status WHERE source IS NOT NULL}), 'idle idle idle', 'all is well');

done_testing();
