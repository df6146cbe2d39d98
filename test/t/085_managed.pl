# Run the statements of docs/managed.md: contactsync beside a server that does not have it. A block of statements is typed on
# the server that its first line names.
use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

my $page = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/managed.md");
my ($set_up, $slot_lost) = $page =~ /^## Set up\n(.*?)^## What is different\n.*?^## The slot is lost\n(.*)/ms or die 'docs/managed.md has other sections';
is(scalar(() = $page =~ /^```sql$/gm), scalar(() = "$set_up$slot_lost" =~ /^```sql\n-- (?:managed|own)$/gm), 'all statements of the page are run');

my $sandbox = start_sandbox();
$sandbox->config('mailingcore', { account => 'clx123', keys => { 'mc_live_...' => { scopes => [ 'contacts:read', 'contacts:write' ] } }, limits => { client => undef } });
my %node = (
	managed => start_node(-name => 'managed', -allows_streaming => 'logical', 'shared_preload_libraries' => ''),
	own => start_node(-name => 'own'));
my $connection = quote_literal($node{managed}->connstr('postgres') . ' user=mirror');

$node{managed}->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id bigint PRIMARY KEY, email_address text, first_name text, plan text, newsletter boolean, diagnosis text);
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'C', 'free', g = 1, 'private' FROM generate_series(1, 3) g;
});

# Type blocks of statements, with the sandbox in place of the provider; wait for the copy where the page says so.
sub type
{
	foreach ($_[0] =~ /^```sql\n(.*?)^```$/gms)
	{
		my ($name) = /^-- (\w+)/;
		my $code = s/(provider 'mailingcore',)/$1 base_url '@{[$sandbox->url]}\/mailingcore',/r =~ s/CONNECTION '.*'/CONNECTION $connection/r;
		my $stderr;

		is($node{$name}->psql('postgres', $code, stderr => \$stderr, on_error_stop => 1), 0, (split /\n/)[1])
		  or diag $stderr;
		$node{own}->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_subscription_rel WHERE srsubstate = 'r'}) or die 'the rows were not copied'
		  if /FROM pg_subscription_rel;/;
	}
	return;
}

sub remote
{
	return join ' ', sort map { "$_->{externalId} $_->{attributes}{plan}" . ($_->{optIn} ? ' yes' : '') } @{ $sandbox->contacts('mailingcore', account => 'clx123') };
}

sub arrived
{
	$node{managed}->wait_for_catchup('contactsync');
	$node{own}->safe_psql('postgres', q{CALL contactsync_wait('mail')});
	return remote();
}

type($set_up);
is(remote(), '1 free yes 2 free 3 free', 'the rows that there were arrive');
is($node{managed}->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'contactsync'}), '0', 'without the extension on the managed server');

$node{managed}->safe_psql(
	'postgres', q{
	UPDATE customers SET plan = 'pro' WHERE id = 2;
	UPDATE customers SET newsletter = true WHERE id = 3;
	INSERT INTO customers VALUES (4, 'c4@example.com', 'C', 'free', false);
});
is(arrived(), '1 free yes 2 pro 3 free yes 4 free', 'and so do changes');

# a row that goes while the server of one's own is down
$node{own}->stop;
$node{managed}->safe_psql('postgres', q{DELETE FROM customers WHERE id = 1; INSERT INTO customers VALUES (5, 'c5@example.com', 'C', 'free', false)});
$node{own}->start;
$node{own}->safe_psql('postgres', q{SELECT contactsync_alter_watch('customers', 'mail', delete_delay => '0')});
$node{managed}->wait_for_catchup('contactsync');
wait_for('the deletion', sub { remote() eq '2 pro 3 free yes 4 free 5 free' });
pass('what changed while the server was down arrives');

# the slot is lost, and a change with it
$node{own}->stop;
$node{managed}->safe_psql('postgres', q{SELECT pg_drop_replication_slot('contactsync')});
$node{managed}->safe_psql('postgres', q{UPDATE customers SET plan = 'team' WHERE id = 4; DELETE FROM customers WHERE id = 5});
$node{own}->start;
$node{own}->wait_for_log(qr/replication slot "contactsync" does not exist/);
my $before = $sandbox->journal('mailingcore')->[-1]{seq};
type($slot_lost);
wait_for('the deletion', sub { remote() eq '2 pro 3 free yes 4 team' });
pass('after a lost slot everything is as on the managed server');
is_deeply([ sort map { @{ $_->{keys} // [] } } grep { $_->{seq} > $before } @{ $sandbox->journal('mailingcore') } ],
	[ '4', 'c4@example.com' ], 'and only the contact that differs was sent');

$node{own}->stop;
$node{managed}->stop;
done_testing();
