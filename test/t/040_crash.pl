# Whatever process ends, at whatever time, delivery resumes and the provider ends up with the contents of the table. While a
# call with another value is in flight, the row returns to the value that the provider is known to have, so that only the crash
# itself shows that something must be sent.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 10;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('restart_after_crash' => 'on', 'contactsync.clock_speed' => $speed);

create_server($node, $sandbox, 'mailingcore', account => 'bulk', server => { pace => 1000, burst => 1000, batch_size => 20 });
create_server($node, $sandbox, 'campaignlark', account => 'single', server => { pace => 1000, burst => 1000 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, plan text NOT NULL, consent boolean NOT NULL DEFAULT true);
	SELECT contactsync_watch('customers', 'bulk', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', on_delete => 'delete', delete_delay => '0');
	SELECT contactsync_watch('customers', 'single', '{"email": "email", "opt_in": "consent", "attributes": {"plan": "plan"}}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'A' FROM generate_series(1, 60) g;
});

sub expected { return $node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', email, plan), ',' ORDER BY email) FROM customers}); }

sub bulk
{
	return join(',', sort map { "$_->{email} $_->{attributes}{plan}" } @{ $sandbox->contacts('mailingcore', account => 'bulk') });
}

# this watch deletes no contacts
sub single
{
	my ($expected) = @_;

	return join(',',
		grep { index($expected, $_) >= 0 } sort map { "$_->{email_address} $_->{fields}{plan}" } @{ $sandbox->contacts('campaignlark', account => 'single') });
}

sub process_ids
{
	my ($type) = @_;

	return split(/\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync $type'"));
}

# Wait until the worker is running again and has nothing left to do.
sub converge
{
	my ($title) = @_;

	$node->poll_query_until('postgres', q{SELECT bool_and(backlog = 0 AND worker = 'running') FROM contactsync.status})
	  or die "timed out waiting for the end of: $title";
	$node->safe_psql('postgres', 'CALL contactsync_wait(NULL)');
	my $expected = expected();
	is(bulk(), $expected, "$title: MailingCore has the contents of the table");
	is(single($expected), $expected, 'CampaignLark has the contents of the table');
	return;
}

converge('the beginning');

my %end = (
	'a worker that is killed' => sub { crash_worker($node, 'postgres'); },
	'a worker that is told to end' => sub { kill 'TERM', process_ids('worker'); },
	'a server that is stopped at once' => sub { $node->stop('immediate'); $node->start; },
	'a server that is restarted' => sub { $node->stop; $node->start; },
	'definitions that are read again' => sub { $node->safe_psql('postgres', q{ALTER SERVER bulk OPTIONS (SET batch_size '19')}); },
	'worker and launcher that are told to end' => sub { kill 'TERM', process_ids('launcher'), process_ids('worker'); });

my $round = 0;

foreach my $title (sort keys %end)
{
	my $next = 100 + ++$round;

	# B arrives, but the answer is lost
	$sandbox->fault($_, { times => undef, effect => 'after', action => { stall => \1 } }) foreach 'mailingcore', 'campaignlark';
	$node->safe_psql('postgres', q{UPDATE customers SET plan = 'B' WHERE id <= 15});
	$sandbox->wait_for_journal($_, sub { grep { $_->{in_flight} && $_->{body} =~ /"B"/ } @_ }) foreach 'mailingcore', 'campaignlark';
	$node->safe_psql(
		'postgres', qq{
		UPDATE customers SET plan = 'A' WHERE id <= 15;
		UPDATE customers SET plan = 'round $round' WHERE id BETWEEN 16 AND 40;
		INSERT INTO customers VALUES ($next, 'n$next\@example.com', 'new');
		DELETE FROM customers WHERE id = 60 - $round;
	});
	like(bulk(), qr/c1\@example.com B/, "the provider has a value that the table no longer has");
	$end{$title}->();
	$sandbox->clear_faults($_) foreach 'mailingcore', 'campaignlark';
	converge($title);
}

# The provider stores B, answers with an error, and is down since: no call is in flight, but one may have been processed.
# The longer it is down, the longer the pauses are, so a crash during a pause is the most likely one.
$sandbox->fault('campaignlark', { times => 1, effect => 'after', action => { status => 500 }, match => { email => 'c1@example.com' } });
$sandbox->fault('campaignlark', { times => undef, action => { status => 503 } });
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'B' WHERE id = 1});
wait_for('a pause of 10 seconds', sub { $sandbox->call('GET', 'clock')->{now} > $sandbox->journal('campaignlark')->[-1]{clock} + 10 });
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'A' WHERE id = 1});
$node->stop;
$node->start;
$sandbox->clear_faults('campaignlark');
converge('a restart in a pause');

is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');
$node->poll_query_until('postgres', 'SELECT NOT bool_or(busy) FROM contactsync.endpoint') or die 'timed out waiting for idleness';

# once it is known that no call was in flight, a restart repeats nothing
my $requests = $sandbox->count('mailingcore')->{requests};
$node->stop;
$node->start;
$node->safe_psql('postgres', q{UPDATE customers SET plan = 'C' WHERE id = 1; UPDATE customers SET plan = 'A' WHERE id = 2});
converge('a restart of an idle server');
is($sandbox->count('mailingcore')->{requests}, $requests + 1, 'only the new change causes a call');

$node->stop;
done_testing();
