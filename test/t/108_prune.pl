# Retention by age and by count: the worker deletes the oldest rows and leaves the others.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Return the ages of the rows in hours, by server, without those of the current hour.
sub hours
{
	my ($table, $column) = @_;

	return sql(qq{SELECT string_agg(server || ': ' || ages, '; ' ORDER BY server) FROM (
		SELECT server, string_agg(round(extract(epoch FROM now() - $column) / 3600)::text, ',' ORDER BY $column DESC) AS ages
		FROM contactsync.$table t JOIN contactsync.endpoint e ON e.id = t.endpoint WHERE $column < now() - interval '50 min' GROUP BY server) a});
}

# Change the settings, and restart the worker, which prunes when it starts; wait for that.
sub prune
{
	my (%settings) = @_;

	sql("ALTER SYSTEM SET contactsync.$_ = '$settings{$_}'") foreach sort keys %settings;
	# this row is deleted with any setting; all is pruned in one transaction
	sql(q{INSERT INTO contactsync.minute (endpoint, at, first_at) SELECT min(id), '2000-01-01', '2000-01-01' FROM contactsync.endpoint});
	$node->stop;
	$node->start;
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.minute WHERE at = '2000-01-01')}) or die 'timed out waiting for the worker to prune';
	return;
}

# One call per contact, all of them traced; those without an address fail.
foreach my $server ('mail', 'post')
{
	my $n = $server eq 'mail' ? 10 : 2;

	create_server($node, $sandbox, 'mailingcore', account => $server, server => { pace => 1000, burst => 1000, batch_size => 1 });
	sql(qq{
		CREATE TABLE people_of_$server (id integer PRIMARY KEY, email text);
		SELECT contactsync_watch('people_of_$server', '$server', '{"email": "email"}');
		SELECT contactsync_trace('$server', format('c%s\@example.com', g)) FROM generate_series(1, $n) g;
		INSERT INTO people_of_$server SELECT g, format('c%s\@example.com', g) FROM generate_series(1, $n) g;
		INSERT INTO people_of_$server SELECT 100 + g, 'nobody' FROM generate_series(1, $n) g;
		CALL contactsync_wait('$server')});
}
is(sql(qq{SELECT (SELECT count(*) FROM contactsync.$_), (SELECT count(DISTINCT endpoint) FROM contactsync.$_)}), '12|2', "there is a $_ for each contact") foreach 'failure', 'trace', 'call';

# for each server the last row is an hour old, and each row before it is an hour, or a day, older
foreach ([ 'failure', 'last_at', 'hour' ], [ 'call', 'started_at', 'hour' ], [ 'trace', 'started_at', 'day' ])
{
	my ($table, $column, $unit) = @$_;

	sql(qq{UPDATE contactsync.$table t SET $column = now() - n * interval '1 $unit'
		FROM (SELECT id, row_number() OVER (PARTITION BY endpoint ORDER BY id DESC) AS n FROM contactsync.$table) o WHERE o.id = t.id});
}
sql(q{
	INSERT INTO contactsync.minute (endpoint, at, first_at) SELECT id, date_trunc('minute', now()) - n * interval '1 hour', now()
		FROM contactsync.endpoint, generate_series(1, 10) n WHERE server = 'mail';
	INSERT INTO contactsync.minute_failure (endpoint, at, reason, failed) SELECT endpoint, at, 'invalid_email', 1
		FROM contactsync.minute WHERE at < now() - interval '50 min'});

# with default settings
my $all = '1,2,3,4,5,6,7,8,9,10';
prune();
is(hours('failure', 'last_at'), "mail: $all; post: 1,2", 'recent failures are kept');
is(hours('call', 'started_at'), "mail: $all; post: 1,2", 'recent calls are kept');
is(hours($_, 'at'), "mail: $all", "so is each $_ of the history") foreach 'minute', 'minute_failure';
is(hours('trace', 'started_at'), 'mail: 24,48,72,96,120,144; post: 24,48', 'traces are kept for a week');

# by age
prune(failure_age => '330min', call_log_age => '210min', history_age => '150min');
is(hours('failure', 'last_at'), 'mail: 1,2,3,4,5; post: 1,2', 'failures older than failure_age are deleted');
is(hours('call', 'started_at'), 'mail: 1,2,3; post: 1,2', 'calls older than call_log_age are deleted');
is(hours($_, 'at'), 'mail: 1,2', "and each $_ beyond history_age") foreach 'minute', 'minute_failure';

# by count: per server, except for calls
prune(failure_rows => 3, call_log_rows => 4, trace_rows => 4);
is(hours('failure', 'last_at'), 'mail: 1,2,3; post: 1,2', 'failures beyond failure_rows of a server are deleted, the oldest first');
is(hours('call', 'started_at'), 'mail: 1,2; post: 1,2', 'calls beyond call_log_rows are deleted');
is(hours('trace', 'started_at'), 'mail: 24,48,72,96; post: 24,48', 'traces beyond trace_rows of a server are deleted');

# nothing is kept
prune(failure_rows => 0, call_log_rows => 0, trace_rows => 0);
is(hours($_->[0], $_->[1]), '', "no $_->[0] is kept if none is to be") foreach [ 'failure', 'last_at' ], [ 'call', 'started_at' ], [ 'trace', 'started_at' ];
is(sql(q{SELECT count(*) FROM contactsync.contact}), '12', 'the states of contacts are kept');

$node->stop;
done_testing();
