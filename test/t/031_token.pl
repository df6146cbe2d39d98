# OAuth: access tokens are renewed before they expire, rotated refresh tokens are never lost, and no token becomes visible.

use strict;
use warnings;

use ContactSync;
use Test::More;

# An hour passes in 6 s.
my $speed = 600;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);
my $sent = 0;

create_server(
	$node, $sandbox, 'caramel',
	server => {
		business_id => 'bus_01h7m9k0aabcdefghj1234567',
		base_url => $sandbox->url . '/caramel/mcp',
		token_url => $sandbox->url . '/caramel/token',
		client_id => 'client_sandbox',
		refresh_interval => '10min',
		timeout => '1h',
		connect_timeout => '1h'
	},
	mapping => { access_token => undef, refresh_token => 'rt_sandbox' });
$sandbox->config('caramel', { limits => { ip => undef } });

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub send_contact
{
	$sent++;
	sql(qq{SELECT contactsync_upsert('caramel', '{"email": "c$sent\@example.com"}')});
	return;
}

# Return an option of the user mapping, or ''.
sub option
{
	my ($name) = @_;
	return sql(qq{SELECT option_value FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE option_name = '$name'});
}

sub refreshes { return scalar grep { $_->{path} =~ /token/ } @{ $sandbox->journal('caramel') }; }
sub refused { return scalar grep { ($_->{status} // 0) == 401 } @{ $sandbox->journal('caramel') }; }

# A refresh token alone is enough to start.
send_contact();
$sandbox->wait_for_contacts('caramel', $sent);
is(refreshes(), 1, 'a refresh token alone obtains an access token');
isnt(option('refresh_token'), 'rt_sandbox', 'the refresh token was rotated');
like(option('access_token'), qr/^eyJ_/, 'the access token is stored');

# It is renewed in time, before a call is refused.
my $first = option('access_token');
$node->poll_query_until('postgres',
	qq{SELECT option_value <> '$first' FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE option_name = 'access_token'})
  or die 'timed out waiting for the token to be renewed';
send_contact();
$sandbox->wait_for_contacts('caramel', $sent);
is(refused(), 0, 'the access token is renewed before it is refused');

# From here on it is renewed only if it is refused or its age is unknown.
my $before = refreshes();
sql(q{ALTER SERVER caramel OPTIONS (SET refresh_interval '1d');
	ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (SET access_token 'revoked', DROP token_expires_at,
		SET token_refreshed_at '9999999999')});
send_contact();
$sandbox->wait_for_contacts('caramel', $sent);
cmp_ok(refreshes(), '>', $before, 'a token from the future has an unknown age, and is renewed');
is(refused(), 0, 'such a token is not tried first');
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (SET access_token 'revoked', DROP token_expires_at)});
send_contact();
$sandbox->wait_for_contacts('caramel', $sent);
is(refused(), 1, 'a refused token is tried once');
isnt(option('access_token'), 'revoked', 'a refused token is renewed');
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails because of a refused token');

# A session that only asks does not renew it either: the worker does, once for all sessions, whether or not they roll back.
sub used_twice { return scalar grep { $_->{path} =~ /token/ && ($_->{status} // 0) == 400 } @{ $sandbox->journal('caramel') }; }
my $usage = q{SELECT result FROM contactsync_verify('caramel', 0) WHERE check_name = 'usage'};

sql(q{ALTER SERVER caramel OPTIONS (ADD usage 'mcp');
	ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (SET access_token 'revoked')});
$before = refreshes();
my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
$_->query_until(qr/asked/, "\\echo asked\nBEGIN; $usage; ROLLBACK;\n\\echo done\n") foreach @sessions;
send_contact();
like($_->query_until(qr/done/, ''), qr/^ok$/m, 'a session that asks gets an answer') foreach @sessions;
$_->quit foreach @sessions;
$sandbox->wait_for_contacts('caramel', $sent);
cmp_ok(refreshes(), '>', $before, 'the answer required a renewed token');
is(used_twice(), 0, 'no refresh token is used twice');
is(sql($usage), 'ok', 'the renewed token is available to all sessions, although they rolled back');

# A rotated token is on disk before it is used: with an older refresh token nothing would arrive any more.
$node->stop('immediate');
$node->start;
send_contact();
$sandbox->wait_for_contacts('caramel', $sent);
pass('a crash does not lose the refresh token');

# When the refresh token is not accepted either, somebody must sign in again; meanwhile all changes stay queued.
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (SET access_token 'revoked', SET refresh_token 'rt_unknown')});
send_contact();
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status})
  or die 'timed out waiting for the server to be halted';
like(sql('SELECT reason FROM contactsync.status'), qr/refresh token.*sign in again/, 'a refused refresh token halts the server');
is(sql('SELECT backlog, failures FROM contactsync.status'), '1|0', 'the contact stays queued');
$sandbox->config('caramel', { refresh_tokens => { rt_anew => {} } });
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (SET refresh_token 'rt_anew')});
$sandbox->wait_for_contacts('caramel', $sent);
pass('signing in again resumes delivery');

# Two roles that share the user mapping of PUBLIC also share its tokens.
my $twice = used_twice();    # the one for an unknown token
$sent += 2;
$sandbox->config('caramel', { refresh_tokens => { rt_public => {} } });
sql(qq{
	CREATE ROLE one; CREATE ROLE two; GRANT USAGE ON FOREIGN SERVER caramel TO one, two;
	DROP USER MAPPING FOR CURRENT_USER SERVER caramel;
	CREATE USER MAPPING FOR PUBLIC SERVER caramel OPTIONS (access_token 'revoked', refresh_token 'rt_public');
	SET ROLE one; SELECT contactsync_upsert('caramel', '{"email": "one\@example.com"}'); RESET ROLE;
	SET ROLE two; SELECT contactsync_upsert('caramel', '{"email": "two\@example.com"}'); RESET ROLE});
$sandbox->wait_for_contacts('caramel', $sent);
is(used_twice(), $twice, 'two roles that share a refresh token do not both use it');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/eyJ_|\brt_|revoked/, 'the log contains no token');

done_testing();
