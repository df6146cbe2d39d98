# What the random histories of consent found at providers that are defined by data.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

# all is done by a role that owns nothing but its servers and tables, but for what only an administrator may do
sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'app' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub settle { my ($server, $sql) = @_; sql("$sql; CALL contactsync_wait('$server')"); return; }
sub contacts { return @{ $sandbox->contacts('webhook', account => 'hook') }; }

sub mailable
{
	my ($email) = @_;
	my ($person) = grep { $_->{email} eq $email } @{ $sandbox->call('GET', 'webhook/mailable', undef, account => 'hook') };

	return $person && $person->{mailable} ? 'yes' : 'no';
}

my $url = $sandbox->url . '/webhook/hook';
admin(q{CREATE EXTENSION contactsync; CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO app; GRANT CREATE ON SCHEMA public TO app});
sql(qq{
	CREATE SERVER hook FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'webhook', base_url '$url', pace '1000', burst '1000');
	CREATE USER MAPPING FOR CURRENT_USER SERVER hook OPTIONS (signing_secret 'sandbox secret');
	CREATE TABLE people (id int PRIMARY KEY, email text, wants boolean);
	SELECT contactsync_watch('people', 'hook', '{"external_id": "id", "email": "email", "opt_in": "wants"}', on_delete => 'delete', delete_delay => '0')});

# The ID of a request is that of an earlier one only if it is the same request: the service does nothing for one that it knows.
foreach my $time ('once', 'twice')
{
	settle('hook', q{INSERT INTO people VALUES (1, 'jane@example.com', NULL)});
	is(scalar contacts(), 1, "a contact is created, $time");
	settle('hook', q{DELETE FROM people});
	is(scalar contacts(), 0, "and deleted, $time");
}

# A contact that is found by an ID gets another address: the consent of the former one does not pass to it.
settle('hook', q{INSERT INTO people VALUES (2, 'ann@example.com', true), (3, 'bea@example.com', true), (4, 'cleo@example.com', true)});
is(mailable('ann@example.com'), 'yes', 'a new person who wants mail');
settle('hook', q{UPDATE people SET wants = NULL WHERE id = 2});
settle('hook', q{UPDATE people SET email = 'ann.new@example.com' WHERE id = 2});
is(mailable('ann.new@example.com'), 'no', 'the consent of an address does not pass to another one');
settle('hook', q{UPDATE people SET wants = true WHERE id = 2});
is(mailable('ann.new@example.com'), 'yes', 'for which a word is needed');
settle('hook', q{UPDATE people SET email = 'bea.new@example.com' WHERE id = 3});
is(mailable('bea.new@example.com'), 'yes', 'a person who says yes takes the consent along');
settle('hook', q{UPDATE people SET wants = false WHERE id = 4});
settle('hook', q{UPDATE people SET email = 'cleo.new@example.com' WHERE id = 4});
is(mailable('cleo.new@example.com'), 'no', 'one who says no does not');

# A row gets another key, and its contact is refused by that call: the row stands for it nevertheless.
sql(q{CREATE TABLE clients (id int PRIMARY KEY, ext text, email text, name text);
	SELECT contactsync_watch('clients', 'hook', '{"external_id": "ext", "email": "email", "first_name": "name"}', on_delete => 'delete', delete_delay => '2 s')});
settle('hook', q{INSERT INTO clients VALUES (1, 'dora', 'dora@example.com', 'Dora'), (2, 'eve', 'eve@example.com', 'Eve')});
sub names { return join(' ', sort map { $_->{first_name} // () } contacts()); }
is(names(), 'Dora Eve', 'two clients');
$sandbox->config('webhook', { account => 'hook', blocked => ['dora@example.com'] });
settle('hook', q{UPDATE clients SET id = id + 10, name = 'new'});
is(sql(q{SELECT key || ' ' || code FROM contactsync.failures}), '11 blocked', 'one is refused when both get other keys');
$sandbox->config('webhook', { account => 'hook', blocked => [] });
sub decided { return $node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM contactsync.departure)'); }
decided() or die;
settle('hook', 'SELECT 1');
is(names(), 'Dora new', 'its contact is not removed');
settle('hook', q{DELETE FROM clients WHERE id = 11});
is(sql(q{SELECT count(*) FROM contactsync.failures}), '0', 'when the row goes, it is no failure any more');
decided() or die;
settle('hook', 'SELECT 1');
is(names(), 'new', 'and the contact is removed');

# What a lookup shows of an opt-out is known here from then on: nobody's word for all claims over it.
$sandbox->config('brevo', { account => 'known', keys => { known_brevo => {} }, limits => { contacts => undef } });
$sandbox->config('loops', { account => 'known', keys => { known_loops => {} }, limits => { team => undef } });
my %path = (brevo => 'brevo/v3', loops => 'loops/v1');
my %left = (brevo => { emailBlacklisted => JSON::PP::true, listIds => [2] }, loops => { subscribed => JSON::PP::false });
foreach my $provider ('brevo', 'loops')
{
	my $list = $provider eq 'brevo' ? ", list_id '2'" : '';

	$sandbox->call('POST', "$provider/contacts", { account => 'known', contacts => [ { email => 'left@example.com', %{ $left{$provider} } } ] });
	sql(qq{
		CREATE SERVER $provider FOREIGN DATA WRAPPER contactsync OPTIONS (provider '$provider', base_url '@{[ $sandbox->url ]}/$path{$provider}', pace '1000', burst '1000' $list);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $provider OPTIONS (api_key 'known_$provider');
		CREATE TABLE $provider (id int PRIMARY KEY, email text, wants boolean);
		SELECT contactsync_watch('$provider', '$provider', '{"email": "email", "opt_in": "wants"}')});
	settle($provider, qq{INSERT INTO $provider VALUES (1, 'left\@example.com', true)});
	is(sql(qq{SELECT email FROM contactsync.opt_outs WHERE server = '$provider'}), 'left@example.com', "$provider: an opt-out that a lookup shows is known here");
	sql(qq{SELECT contactsync_import('$provider', '$provider', claims => 'all', automations => 'accepted')});
	settle($provider, 'SELECT 1');
	is((scalar grep { $_->{mailable} } @{ $sandbox->call('GET', "$provider/mailable", undef, account => 'known') }), 0, "$provider: and stands");
}

# A definition is compiled once, however many servers use it, and again only if it has changed.
sub compiled { return scalar(() = slurp_file($node->logfile) =~ /compiled the definition of provider "(hook|own)"/g); }
sub begin_worker_anew
{
	my $pid = admin(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});

	admin("SELECT pg_terminate_backend($pid, 10000)");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND pid <> $pid") or die;
	return;
}
sql(q{SELECT contactsync_define('own', definition) FROM contactsync_providers() WHERE name = 'webhook'});
foreach my $n (1 .. 5)
{
	sql(qq{CREATE SERVER own$n FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'own', base_url '$url', account 'own$n');
		CREATE USER MAPPING FOR CURRENT_USER SERVER own$n OPTIONS (signing_secret 'sandbox secret')});
	settle("own$n", qq{SELECT contactsync_upsert('own$n', '{"external_id": "own$n", "email": "own$n\@example.com"}')});
}
# only the worker is that talkative
admin(q{ALTER SYSTEM SET log_min_messages = debug1; ALTER ROLE app SET log_min_messages = warning});
$node->reload;
begin_worker_anew();
settle('own1', q{SELECT contactsync_upsert('own1', '{"external_id": "own1", "email": "new@example.com"}')});
is(compiled(), 1, 'a definition that five servers use is compiled once');
foreach my $n (1 .. 3)
{
	settle('own1', qq{ALTER SERVER own1 OPTIONS (@{[ $n == 1 ? 'ADD' : 'SET' ]} timeout '2${n}s');
		SELECT contactsync_upsert('own1', '{"external_id": "own1", "email": "new$n\@example.com"}')});
}
is(compiled(), 1, 'and not again when a server is altered');
sql(q{SELECT contactsync_define('own', definition || '{"title": "Mine"}') FROM contactsync_providers() WHERE name = 'own'});
settle('own2', q{SELECT contactsync_upsert('own2', '{"external_id": "own2", "email": "new@example.com"}')});
is(compiled(), 2, 'but if it has changed');

# A definition in use is dumped and restored with the servers that use it, and goes with the extension.
admin(q{ALTER SYSTEM RESET log_min_messages});
$node->reload;
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
admin('CREATE DATABASE copy');
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a database with definitions is dumped');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'and restored');
sub copy { return $node->safe_psql('copy', $_[0], extra_params => [ '-U', 'app' ]); }
is(copy(q{SELECT title FROM contactsync_providers() WHERE name = 'own' AND origin = 'own'}), 'Mine', 'the definition is there');
copy(q{SELECT contactsync_resume('own3')});
copy(q{SELECT contactsync_upsert('own3', '{"external_id": "copied", "email": "copied@example.com"}'); CALL contactsync_wait('own3')});
is((scalar grep { ($_->{external_id} // '') eq 'copied' } contacts()), 1, 'and is used');
$node->safe_psql('copy', $_) foreach 'DROP EXTENSION contactsync CASCADE', 'CREATE EXTENSION contactsync', 'GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO app';
is(copy(q{SELECT string_agg(name, ' ') FROM contactsync_providers() WHERE origin = 'own'}), '', 'it goes with the extension');
sub fails { my (undef, undef, $stderr) = $node->psql('copy', $_[0], extra_params => [ '-U', 'app' ]); return $stderr; }
like(fails(q{CREATE SERVER own FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'own', base_url 'https://example.com')}), qr/ERROR:  .*provider/, 'and no server can be made of it');

done_testing();
