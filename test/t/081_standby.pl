# A standby sends nothing. After promotion it continues where the primary was, whatever was in flight there.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $primary = start_node(-name => 'primary', -allows_streaming => 1);

create_server($primary, $sandbox, 'mailingcore', account => 'crm', server => { batch_size => 10 });
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'A' FROM generate_series(1, 30) g;
	CALL contactsync_wait('crm');
});
$primary->backup('base');

my $standby = start_standby($primary, 'standby');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'contactsync%'}), '0', 'a standby has neither launcher nor worker');
is($standby->safe_psql('postgres', q{SELECT server, state, synced, backlog FROM contactsync.status}), 'crm|idle|30|0', 'a standby shows the status');
my ($result, undef, $stderr) = $standby->psql('postgres', 'CALL contactsync_run()');
like($stderr, qr/ERROR:.*(read-only transaction|recovery)/, 'contactsync_run() fails on a standby');
($result, undef, $stderr) = $standby->psql('postgres', q{CALL contactsync_wait('crm')});
is($result, 0, 'contactsync_wait() returns if there is nothing to wait for');

# B arrives at the provider, the table returns to A, and the primary stops
$sandbox->fault('mailingcore', { times => undef, effect => 'after', action => { stall => \1 } });
$primary->safe_psql('postgres', q{UPDATE customers SET plan = 'B' WHERE id <= 10});
$sandbox->wait_for_journal('mailingcore', sub { $_[-1]{in_flight} });
$primary->safe_psql(
	'postgres', q{
	UPDATE customers SET plan = 'A' WHERE id <= 10;
	UPDATE customers SET plan = 'C' WHERE id > 10 AND id <> 20;
	DELETE FROM customers WHERE id = 30;
	INSERT INTO customers VALUES (31, 'c31@example.com', 'A');
});
is((grep { $_->{attributes}{plan} eq 'B' } @{ $sandbox->contacts('mailingcore', account => 'crm') }), 10, 'the provider has a value that the table no longer has');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$sandbox->clear_faults('mailingcore');
my $requests = $sandbox->count('mailingcore')->{requests};
is($standby->safe_psql('postgres', q{SELECT backlog > 0 FROM contactsync.status}), 't', 'the standby knows the queued changes');
is($sandbox->count('mailingcore')->{requests}, $requests, 'the standby still sends nothing');

$standby->promote;
$standby->poll_query_until('postgres', q{SELECT backlog = 0 AND worker = 'running' FROM contactsync.status}) or die 'timed out waiting for the end';
my %plan = map { $_->{externalId} => $_->{attributes}{plan} } @{ $sandbox->contacts('mailingcore', account => 'crm') };
is( join(',', map { "$_ $plan{$_}" } grep { $_ != 30 } sort { $a <=> $b } keys %plan),
	$standby->safe_psql('postgres', q{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM customers}),
	'after promotion it delivers all of them');
$standby->safe_psql('postgres', q{UPDATE customers SET plan = 'D' WHERE id = 5; CALL contactsync_wait('crm')});
is((grep { $_->{externalId} == 5 } @{ $sandbox->contacts('mailingcore', account => 'crm') })[0]{attributes}{plan}, 'D', 'later changes are delivered');

# The last calls of the old primary may not have been replicated: the stored state is not trusted, and the log says so. The
# worker checks a row when it changes, so an unchanged row is sent once more, and only if it is read.
sub requests_of
{
	my $from = $sandbox->count('mailingcore')->{requests};
	$standby->safe_psql(
		'postgres', q{
		BEGIN; UPDATE customers SET plan = 'X' WHERE id = 20; UPDATE customers SET plan = 'A' WHERE id = 20; COMMIT;
		CALL contactsync_wait('crm')});
	return $sandbox->count('mailingcore')->{requests} - $from;
}
is(requests_of(), 1, 'an unchanged row is sent once more');
is(requests_of(), 0, 'then its state is known');
my $log = PostgreSQL::Test::Utils::slurp_file($standby->logfile);
like($log, qr/WARNING:  contactsync may not know all that was sent to server "crm", .*\(timeline 2, before: 1\)/, 'the log of a promoted standby states the reason');
$standby->safe_psql('postgres', q{SELECT contactsync_mark_stale('crm'); SELECT contactsync_mark_stale('crm', '-infinity')});
is(requests_of(), 0, 'after a failover without data loss, the stored state can be trusted');
$standby->safe_psql('postgres', q{SELECT contactsync_mark_stale('crm')});
is(requests_of(), 1, 'the stored state can be distrusted on request');
# what is queued when a worker starts is sent anyway if the last one may have been in the middle of a call
$standby->poll_query_until('postgres', q{SELECT NOT bool_or(busy) FROM contactsync.endpoint}) or die 'timed out waiting for the worker to be idle';
$standby->stop;
$standby->start;
is(requests_of(), 0, 'a restart preserves this');
$standby->stop;
is(() = PostgreSQL::Test::Utils::slurp_file($standby->logfile) =~ /may not know all/g, 1, 'the log message is not repeated');
done_testing();
