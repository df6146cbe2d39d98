# Rows that get other keys, move to another partition, change places, or are deleted and inserted again, and one of two rows of a
# person that goes: nobody feels it, neither by live changes nor by a reconciliation, at any provider.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox(clock_speed => 20);
my $node = start_node('contactsync.clock_speed' => 20);

# everything but what bypasses the triggers is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

my %fast = (pace => 500, burst => 50, bulk_guard => 0);
my @accounts = (
	[ 'ids', 'mailingcore', '{"email": "email", "external_id": "ext", "opt_in": "wants"}', 'delete', \%fast ],
	[ 'addresses', 'mailingcore', '{"email": "email", "opt_in": "wants"}', 'unsubscribe', \%fast ],
	[ 'larks', 'campaignlark', '{"email": "email", "opt_in": "wants", "first_name": "ext"}', 'unsubscribe', \%fast ],
	[ 'owlrows', 'owlat', '{"email": "email", "opt_in": "wants", "first_name": "ext"}', 'delete', { %fast, topic_id => 'topicsingle000000000000000000000' } ],
	[ 'zees', 'spotzee', '{"email": "email", "external_id": "ext", "opt_in": "wants"}', 'delete', { %fast, batch_size => 10 } ]);

# What moves rows and no person.
my $another = q{INSERT INTO %1$s SELECT region, (SELECT max(id) + 1 FROM %1$s), ext, email, wants FROM %1$s WHERE ext = 'e3' LIMIT 1};
my @moves = (
	[ 'other keys', 'UPDATE %s SET id = id + 100' ],
	[ 'another partition', q{UPDATE %s SET region = CASE region WHEN 'a' THEN 'b' ELSE 'a' END} ],
	[ 'two rows change places', q{
		UPDATE %1$s x SET email = y.email, ext = y.ext FROM %1$s y
		WHERE x.ext IN ('e1', 'e2') AND y.ext IN ('e1', 'e2') AND x.ext <> y.ext} ],
	[ 'a row is deleted and inserted in one transaction', q{
		BEGIN; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM %1$s WHERE ext = 'e1';
		DELETE FROM %1$s WHERE ext = 'e1'; INSERT INTO %1$s SELECT * FROM kept; COMMIT} ],
	[ 'a row is deleted, and inserted later under another key', q{
		CREATE TEMP TABLE kept AS SELECT * FROM %1$s WHERE ext = 'e2';
		DELETE FROM %1$s WHERE ext = 'e2'; INSERT INTO %1$s SELECT region, id + 1000, ext, email, wants FROM kept; DROP TABLE kept} ],
	[ 'all rows are replaced', q{
		BEGIN; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM %1$s; TRUNCATE %1$s;
		INSERT INTO %1$s SELECT region, id + 10000, ext, email, wants FROM kept; COMMIT} ],
	[ 'one of two rows of a person goes', q{DELETE FROM %1$s WHERE ext = 'e3' AND id = (SELECT max(id) FROM %1$s WHERE ext = 'e3')} ],
	[ '... and another comes', $another ]);

# Wait until all changes are sent and all removals, which are due at once then, are decided on.
sub settle
{
	my ($table) = @_;

	sql("SELECT contactsync_alter_watch('$table', '$table', delete_delay => '0'); CALL contactsync_wait('$table')");
	wait_for('the removals', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.departure') eq '0' });
	sql("SELECT contactsync_alter_watch('$table', '$table', delete_delay => '1 d')");
	return;
}

# What people of an account have felt: "removed", "withdrawn", and how many requests made each reachable.
sub felt
{
	my ($provider, $account) = @_;
	my @people = @{ $sandbox->call('GET', "$provider/mailable", undef, account => $account) };

	return join(', ', sort map {
		my $person = $_;
		(my $name = $person->{email}) =~ s/\@.*//;
		my @lost = map { $_->{kind} } grep { $_->{kind} =~ /removed|withdrawn/ } @{ $person->{events} };
		my $gained = grep { $_->{kind} =~ /claimed|asked/ || @{ $_->{gained} // [] } } @{ $person->{events} };
		"$name " . join(' ', @lost, $gained)
	} @people);
}

foreach my $account (@accounts)
{
	my ($table, $provider, $mapping, $on_delete, $options) = @$account;

	create_server($node, $sandbox, $provider, account => $table, role => 'shop', server => $options);
	sql(qq{
		CREATE TABLE $table (region text, id int, ext text, email text, wants boolean, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE ${table}_a PARTITION OF $table FOR VALUES IN ('a');
		CREATE TABLE ${table}_b PARTITION OF $table FOR VALUES IN ('b');
		SELECT contactsync_watch('$table', '$table', '$mapping', on_delete => '$on_delete', delete_delay => '1 d', delete_guard => 'off');
		INSERT INTO $table VALUES ('a', 1, 'e1', 'p1\@example.com', true), ('a', 2, 'e2', 'p2\@example.com', true),
			('a', 3, 'e3', 'p3\@example.com', true), ('a', 5, 'e3', 'p3\@example.com', true)});
	settle($table);
	my $before = felt($provider, $table);
	like($before, qr/^p1 (\d), p2 \1, p3 \1$/, "$table: everybody is subscribed");
	foreach my $move (@moves)
	{
		my ($title, $statement) = @$move;

		sql(sprintf($statement, $table));
		settle($table);
		is(felt($provider, $table), $before, "$table: $title");
		sql(sprintf($another, $table)) if $title =~ /^one of two/;      # so that there are two again
		$node->safe_psql('postgres', 'SET session_replication_role = replica; ' . sprintf($statement, $table));
		sql("SELECT contactsync_reconcile('$table', '$table')");
		settle($table);
		is(felt($provider, $table), $before, "$table: $title, found by a reconciliation");
	}
	sql("DELETE FROM $table WHERE ext = 'e1'");
	settle($table);
	like(felt($provider, $table), qr/^p1 (removed|withdrawn) \d, p2 \d, p3 \d$/, "$table: the contact of a person without a row is removed");
	$node->safe_psql('postgres', "SET session_replication_role = replica; DELETE FROM $table WHERE ext = 'e3'");
	sql("SELECT contactsync_reconcile('$table', '$table')");
	settle($table);
	like(felt($provider, $table), qr/^p1 (removed|withdrawn) \d, p2 \d, p3 (removed|withdrawn) \d$/, "$table: ... also if a reconciliation finds that");
}

$node->stop;
done_testing();
