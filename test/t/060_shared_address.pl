# Rows with one address between them are one contact at a provider that goes by the address: the last change wins.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

sub name_at_provider
{
	return $sandbox->contacts('campaignlark')->[0]{fields}{first_name};
}

# Each statement commits by itself, and nothing is sent before all of them have.
sub change
{
	my (@statements) = @_;
	my $before = $sandbox->count('campaignlark')->{requests};

	$node->safe_psql('postgres', $_) foreach @statements;
	$node->safe_psql('postgres', 'CALL contactsync_run()');
	return $sandbox->count('campaignlark')->{requests} - $before;
}

create_server($node, $sandbox, 'campaignlark');
$node->safe_psql(
	'postgres', q{
	SET client_min_messages = warning;
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, opt_in bool DEFAULT true);
	SELECT contactsync_watch('customers', 'campaignlark');
});

is( change(
		q{INSERT INTO customers VALUES (1, 'jane@example.com', 'Ann')},
		q{INSERT INTO customers VALUES (2, ' JANE@example.com', 'Bea')}),
	2,
	'both are sent, one after the other');
is(scalar @{ $sandbox->contacts('campaignlark') }, 1, 'to one contact');
is(name_at_provider(), 'Bea', 'who was changed last comes last');

# 1 is sent in its old place with its newest value: 2, which stands between, is older
is( change(
		q{UPDATE customers SET first_name = 'Ann 2' WHERE id = 1},
		q{UPDATE customers SET first_name = 'Bea 2' WHERE id = 2},
		q{UPDATE customers SET first_name = 'Ann 3' WHERE id = 1}),
	1,
	'a change that is outdated when its turn comes is not sent');
is(name_at_provider(), 'Ann 3', 'and does not overwrite a newer one');
is($node->safe_psql('postgres', 'SELECT backlog, failures FROM contactsync.status'), '0|0', 'it is over all the same');

is( change(q{UPDATE customers SET first_name = 'Bea' WHERE id = 2}), 1,
	'what an outdated row sent before is not taken for what the provider has');
is(name_at_provider(), 'Bea', 'so it can go back to that');

# the line has passed: nothing is remembered that could hold back what comes
change(
	q{UPDATE customers SET first_name = 'Ann 4' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Ann 5' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Bea 5' WHERE id = 2});
is(name_at_provider(), 'Bea 5', 'what is newer than the newest goes');

# three of them, and somebody else in between
change(
	q{INSERT INTO customers VALUES (3, 'jane@example.com', 'Cid'), (4, 'other@example.com', 'Dan')},
	q{UPDATE customers SET first_name = 'Bea 6' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Cid 6' WHERE id = 3},
	q{UPDATE customers SET first_name = 'Ann 6' WHERE id = 1},
	q{UPDATE customers SET first_name = 'Bea 7' WHERE id = 2});
is(name_at_provider(), 'Bea 7', 'of three it is the last as well');

# the worker, while the first of them hangs
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'contactsync'");
$node->restart;
$sandbox->fault('campaignlark', { action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE customers SET first_name = 'Ann 8' WHERE id = 1});
$sandbox->wait_for_journal('campaignlark', sub { $_[-1]{in_flight} });
$node->safe_psql('postgres', $_)
  foreach (
	q{UPDATE customers SET first_name = 'Bea 8' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Cid 8' WHERE id = 3},
	q{UPDATE customers SET first_name = 'Bea 9' WHERE id = 2},
	q{UPDATE customers SET first_name = 'Ann 9' WHERE id = 1});
$sandbox->clear_faults('campaignlark');
$node->safe_psql('postgres', q{CALL contactsync_wait('campaignlark')});
is(name_at_provider(), 'Ann 9', 'and while one is on its way');

$node->stop;
done_testing();
