# A mapping that hangs gets only a small part of the time, however many rows it has.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.source_timeout' => '200ms');

create_server($node, $sandbox, 'mailingcore', account => $_, server => { pace => 1000, burst => 1000 }) foreach 'slow', 'quick';
$node->safe_psql(
	'postgres', q{
	CREATE TABLE slow (id int PRIMARY KEY, email text);
	CREATE TABLE quick (id int PRIMARY KEY, email text);
	CREATE FUNCTION hang() RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(3600)::text';
	SELECT contactsync_watch('slow', 'slow', '{"email": "email", "first_name": "hang()"}');
	SELECT contactsync_watch('quick', 'quick', '{"email": "email"}');
	INSERT INTO slow SELECT g, format('s%s@example.com', g) FROM generate_series(1, 4) g;
});
my $rounds = 0;
until ($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.failures}) == 4)
{
	$rounds++;
	$node->safe_psql('postgres', qq{INSERT INTO quick VALUES ($rounds, 'q$rounds\@example.com'); CALL contactsync_wait('quick')});
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT reason, ',') FROM contactsync.failures}), 'mapping_error', 'rows whose mapping hangs fail one by one');
is(scalar @{ $sandbox->contacts('mailingcore', account => 'quick') }, $rounds, "while $rounds changes of another server arrived");

# each row took 0.2 s, and 0.8 s were left to others
my $gap = $node->safe_psql('postgres', q{
	SELECT min(gap) FROM (SELECT extract(epoch FROM first_at - lag(first_at) OVER (ORDER BY first_at)) AS gap FROM contactsync.failure) g});
cmp_ok($gap, '>=', 0.95, "other watches had most of the time ($gap s between two timeouts of 0.2 s)");

$node->stop;
done_testing();
