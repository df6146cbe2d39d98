# However many slow mappings a role has, the others have at least half of the worker's time.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
my %unlimited = (pace => 1000, burst => 1000);

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql"); }

sql('CREATE EXTENSION contactsync; CREATE ROLE slow; CREATE ROLE good; GRANT CREATE ON SCHEMA public TO slow, good');
create_server($node, $sandbox, 'mailingcore', account => $_, role => $_, server => \%unlimited) foreach 'slow', 'good';
sql(
	q{
	SET ROLE slow;
	CREATE FUNCTION dawdle() RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(0.4)::text';
	DO $$
	BEGIN
		FOR i IN 1 .. 8 LOOP
			EXECUTE format('CREATE TABLE slow%s (id int PRIMARY KEY, email text, name text)', i);
			PERFORM contactsync_watch(format('slow%s', i)::regclass, 'slow', '{"email": "email", "first_name": "name || dawdle()"}');
			EXECUTE format($q$INSERT INTO slow%s VALUES (1, 's%s@example.com', 'A')$q$, i, i);
		END LOOP;
	END $$;
	SET ROLE good;
	CREATE TABLE good (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('good', 'good', '{"email": "email"}');
});

# in each round all slow mappings have something to do, and one change of the other role is waited for
my $rounds = 15;
foreach my $n (1 .. $rounds)
{
	sql(join(';', map { "UPDATE slow$_ SET name = 'round $n'" } 1 .. 8) . "; INSERT INTO good VALUES ($n, 'g$n\@example.com'); CALL contactsync_wait('good')");
}
my $slow = $sandbox->count('mailingcore', account => 'slow')->{requests};
is(scalar @{ $sandbox->contacts('mailingcore', account => 'good') }, $rounds, "$rounds changes of one role arrived");
cmp_ok($slow, '<=', 3 * $rounds, "while the eight slow mappings of the other had a turn $slow times");
cmp_ok($slow, '>', 0, 'which was not left out either');

# what nobody else competes for is not held back for ever
$node->poll_query_until('postgres', q{SELECT sum(backlog) = 0 FROM contactsync.status}) or die 'timed out waiting for the slow mappings';
is(sql(q{SELECT sum(failures) FROM contactsync.status}), '0', 'all of it is sent in the end');

$node->stop;
done_testing();
