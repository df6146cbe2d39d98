# What has to be durable before a call is sent, or used, is durable when the power fails: the disk of this server forgets what was
# not synced (see test/disk). Nothing is flushed to disk by chance: commits of the application are asynchronous if not said otherwise.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node(
	'fsync' => 'on', 'wal_sync_method' => 'fdatasync', 'restart_after_crash' => 'on',
	'synchronous_commit' => 'off', 'wal_writer_delay' => '10s', 'wal_writer_flush_after' => '1GB', 'autovacuum' => 'off');

$node->safe_psql('postgres', 'CREATE EXTENSION contactsync; CREATE ROLE shop LOGIN; GRANT ALL ON SCHEMA public TO shop');
$node->stop;
my $disk = ContactSync::Disk->new($node);

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }
sub sync_sql { return sql("SET synchronous_commit = on; $_[0]"); }

# Start the server; without the library there is no worker, so that the application is first.
sub start
{
	my ($libraries) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$disk->start;
	return;
}

sub cut_power
{
	$disk->cut_power;
	start('');
	return;
}

sub start_worker
{
	$sandbox->clear_faults($_) foreach qw(caramel mailingcore);
	$node->stop;
	start('contactsync');
	sql('CALL contactsync_wait(NULL)');
	return;
}

# Wait until a request with this in its body has arrived; answers are held back.
sub stall
{
	my ($provider, %match) = @_;

	$sandbox->fault($provider, { match => \%match, times => undef, effect => 'after', action => { stall => \1 } });
	return;
}

sub in_flight
{
	my ($provider, $pattern) = @_;

	$sandbox->wait_for_journal($provider, sub { grep { $_->{in_flight} && ($_->{body} // '') =~ $pattern } @_ });
	return;
}

sub contacts
{
	return join(' ', sort map { "$_->{email}:$_->{attributes}{plan}:" . ($_->{optIn} ? 'yes' : 'no') } @{ $sandbox->contacts('mailingcore', account => 'people') });
}

start('contactsync');

# the disk itself
sync_sql('CREATE TABLE disk (id int PRIMARY KEY); INSERT INTO disk VALUES (1)');
sql('INSERT INTO disk VALUES (2)');
cut_power();
is(sql(q{SELECT string_agg(id::text, ',') FROM disk}), '1', 'the disk keeps what was synced, and forgets the rest');

create_server($node, $sandbox, 'mailingcore', account => 'people', role => 'shop', server => { pace => 1000, burst => 1000, batch_size => 1 });
sync_sql(q{
	CREATE TABLE customers (email text PRIMARY KEY, name text, consent boolean);
	SELECT contactsync_watch('customers', 'people', '{"email": "email", "external_id": "email", "opt_in": "consent", "attributes": {"plan": "name"}}', on_delete => 'delete', delete_delay => '0', delete_guard => 'off');
	INSERT INTO customers VALUES ('busy@example.com', 'A', true), ('no@example.com', 'A', true)});
start_worker();
is(contacts(), 'busy@example.com:A:yes no@example.com:A:yes', 'two contacts');

# Whether calls may be under way: the row has its old values again when the power is back, so that nothing else tells.
$node->poll_query_until('postgres', 'SELECT NOT bool_or(busy) FROM contactsync.endpoint') or die 'timed out waiting for idleness';
stall('mailingcore');
sync_sql(q{UPDATE customers SET name = 'B' WHERE email = 'busy@example.com'});
in_flight('mailingcore', qr/busy/);
cut_power();
sql(q{UPDATE customers SET name = 'A' WHERE email = 'busy@example.com'});
is(contacts(), 'busy@example.com:B:yes no@example.com:A:yes', 'a call has changed a contact');
start_worker();
is(contacts(), 'busy@example.com:A:yes no@example.com:A:yes', 'it is known that a call was under way');

# The account is busy from now on with a call that is not answered.
sub occupy
{
	my ($name) = @_;

	stall('mailingcore');
	sync_sql(qq{UPDATE customers SET name = '$name' WHERE email = 'busy\@example.com'});
	in_flight('mailingcore', qr/busy/);
	return;
}

# What the application has committed, without waiting for the disk, before it is sent.
occupy('C');
sql(q{UPDATE customers SET name = 'sent' WHERE email = 'no@example.com'});
in_flight('mailingcore', qr/"sent"/);
cut_power();
is(sql(q{SELECT name FROM customers WHERE email = 'no@example.com'}), 'sent', 'a row that was sent is durable');
start_worker();

# A contact that a call may have created: the row goes before the worker is back.
occupy('D');
sql(q{INSERT INTO customers VALUES ('new@example.com', 'A', true)});
in_flight('mailingcore', qr/new/);
cut_power();
sql(q{DELETE FROM customers WHERE email = 'new@example.com'});
like(contacts(), qr/new/, 'a call has created a contact');
start_worker();
unlike(contacts(), qr/new/, 'it is known that it may be there');

# A withdrawal: consent is given again before the worker is back, which is a word only if it is known that it was withdrawn.
occupy('E');
sql(q{UPDATE customers SET consent = false WHERE email = 'no@example.com'});
in_flight('mailingcore', qr/no@/);
cut_power();
sql(q{UPDATE customers SET consent = true WHERE email = 'no@example.com'});
like(contacts(), qr/no\@example.com:sent:no/, 'a call has withdrawn consent');
start_worker();
like(contacts(), qr/no\@example.com:sent:yes/, 'it is known that it was withdrawn');

# A token: Caramel accepts a refresh token only once.
create_server(
	$node, $sandbox, 'caramel', role => 'shop',
	server => { token_url => $sandbox->url . '/caramel/token', client_id => 'client_sandbox', pace => 500, burst => 50 },
	mapping => { access_token => undef, refresh_token => 'rt_sandbox' });
sync_sql(q{SELECT contactsync_upsert('caramel', '{"email": "first@example.com"}')});
$sandbox->wait_for_contacts('caramel', 1);
stall('caramel', path => '/mcp');
sync_sql(q{SELECT contactsync_upsert('caramel', '{"email": "stalled@example.com"}')});
in_flight('caramel', qr/stalled/);
sync_sql(sprintf(q{ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (SET token_refreshed_at '%.0f', DROP token_expires_at)},
		$sandbox->call('GET', 'clock')->{now} - 3001));

# Return the refresh token that is stored, and the one that Caramel accepts next.
sub stored { return sql(q{SELECT option_value FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE option_name = 'refresh_token'}); }
sub issued { return (map { $_->{refresh_token} } grep { $_->{kind} eq 'TOKEN_REFRESHED' } @{ $sandbox->events('caramel') })[ $_[0] ]; }

wait_for('a second token to be stored', sub { my $token = issued(1); $token && stored() eq $token });
cut_power();
is(stored(), issued(1), 'a refresh token is durable before it is used');
start_worker();

done_testing();
