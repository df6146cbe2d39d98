# A standby sends nothing; once it is promoted it goes on where the primary was, whatever was under way there.

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

my $standby = PostgreSQL::Test::Cluster->new('standby');

$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'contactsync%'}), '0', 'a standby has neither launcher nor worker');
is($standby->safe_psql('postgres', q{SELECT server, state, synced, backlog FROM contactsync.status}), 'crm|idle|30|0', 'but shows the status');
my ($result, undef, $stderr) = $standby->psql('postgres', 'CALL contactsync_run()');
like($stderr, qr/ERROR:.*(read-only transaction|recovery)/, 'and cannot be had to deliver');
($result, undef, $stderr) = $standby->psql('postgres', q{CALL contactsync_wait('crm')});
is($result, 0, 'with nothing to wait for waiting ends');

# B arrives at the provider, the table goes back to A, and the primary is gone
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
is((grep { $_->{attributes}{plan} eq 'B' } @{ $sandbox->contacts('mailingcore', account => 'crm') }), 10, 'the provider has what the table has not any more');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$sandbox->clear_faults('mailingcore');
my $requests = $sandbox->count('mailingcore')->{requests};
is($standby->safe_psql('postgres', q{SELECT backlog > 0 FROM contactsync.status}), 't', 'the standby knows what is left');
is($sandbox->count('mailingcore')->{requests}, $requests, 'and still sends nothing');

$standby->promote;
$standby->poll_query_until('postgres', q{SELECT backlog = 0 AND worker = 'running' FROM contactsync.status}) or die 'timed out waiting for the end';
my %plan = map { $_->{externalId} => $_->{attributes}{plan} } @{ $sandbox->contacts('mailingcore', account => 'crm') };
is( join(',', map { "$_ $plan{$_}" } grep { $_ != 30 } sort { $a <=> $b } keys %plan),
	$standby->safe_psql('postgres', q{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM customers}),
	'once promoted it delivers all of it');
$standby->safe_psql('postgres', q{UPDATE customers SET plan = 'D' WHERE id = 5; CALL contactsync_wait('crm')});
is((grep { $_->{externalId} == 5 } @{ $sandbox->contacts('mailingcore', account => 'crm') })[0]{attributes}{plan}, 'D', 'and what comes then');

# What the old primary sent last may not have come here: what is stored is not trusted any more, and the log says so. The
# same worker reads it with every call, so a row that is as it was is sent once, and only if somebody looks at it.
sub requests_of
{
	my $from = $sandbox->count('mailingcore')->{requests};
	$standby->safe_psql(
		'postgres', q{
		BEGIN; UPDATE customers SET plan = 'X' WHERE id = 20; UPDATE customers SET plan = 'A' WHERE id = 20; COMMIT;
		CALL contactsync_wait('crm')});
	return $sandbox->count('mailingcore')->{requests} - $from;
}
is(requests_of(), 1, 'a row that is as it was is sent once more');
is(requests_of(), 0, 'and then known');
my $log = PostgreSQL::Test::Utils::slurp_file($standby->logfile);
like($log, qr/WARNING:  contactsync: what the provider has of server "crm" may be newer .*\(timeline 2, before: 1\)/, 'the log of a promoted standby says why');
$standby->safe_psql('postgres', q{SELECT contactsync_mark_stale('crm'); SELECT contactsync_mark_stale('crm', '-infinity')});
is(requests_of(), 0, 'after a failover that lost nothing all of it can be trusted');
$standby->safe_psql('postgres', q{SELECT contactsync_mark_stale('crm')});
is(requests_of(), 1, 'or nothing, when somebody says so');
$standby->stop;
$standby->start;
is(requests_of(), 0, 'after a restart it is known still');
$standby->stop;
is(() = PostgreSQL::Test::Utils::slurp_file($standby->logfile) =~ /may be newer/g, 1, 'and not said again');
done_testing();
