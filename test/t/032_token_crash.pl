# A refresh token can be used only once. Its replacement is stored on disk before anything else is done. If it is lost
# nevertheless, or no token is accepted, somebody must sign in again, and all changes stay queued.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();

# Nothing is flushed to disk by chance: only what was flushed on purpose survives.
my $node = start_node('synchronous_commit' => 'off', 'wal_writer_delay' => '10s', 'wal_writer_flush_after' => '1GB', 'restart_after_crash' => 'on');
my $sent = 0;

create_server(
	$node, $sandbox, 'caramel',
	server => { token_url => $sandbox->url . '/caramel/token', client_id => 'client_sandbox', pace => 500, burst => 50 },
	mapping => { access_token => undef, refresh_token => 'rt_sandbox' });
$sandbox->config('caramel', { limits => { ip => undef } });

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub alter_mapping { return sql("ALTER USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS ($_[0])"); }

sub send_contact
{
	$sent++;
	sql(qq{SELECT contactsync_upsert('caramel', '{"email": "c$sent\@example.com"}')});
	return;
}

sub arrive
{
	my ($title) = @_;

	$sandbox->wait_for_contacts('caramel', $sent);
	pass($title);
	return;
}

# Return an option of the user mapping, or ''.
sub option
{
	my ($name) = @_;
	return sql(qq{SELECT option_value FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE option_name = '$name'});
}

# Return the refresh token that Caramel accepts next.
sub issued { return (grep { $_->{kind} eq 'TOKEN_REFRESHED' } @{ $sandbox->events('caramel') })[-1]{refresh_token}; }

my $seen = 0;

# Return the requests since the last call of this function: their kind and status.
sub requests
{
	my @journal = grep { $_->{seq} > $seen && defined $_->{status} } @{ $sandbox->journal('caramel') };

	$seen = $journal[-1]{seq} if @journal;
	return join(' ', map { ($_->{path} =~ m{([^/]+)$})[0] . " $_->{status}" } @journal);
}

sub halted
{
	my ($reason, $title) = @_;

	$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status}) or die "timed out waiting for the halt: $title";
	like(sql('SELECT reason FROM contactsync.status'), $reason, "$title: the server halts with the reason");
	is(sql('SELECT backlog, failures FROM contactsync.status'), '1|0', "$title: the contact stays queued");
	return;
}

# The rotated refresh token is stored while the first call with the new access token is still in flight, ...
$sandbox->fault('caramel', { match => { path => '/mcp' }, action => { stall => \1 } });
send_contact();
$sandbox->wait_for_journal('caramel', sub { grep { $_->{path} =~ /mcp/ && $_->{in_flight} } @_ });
my $refresh_token = issued();
is(option('refresh_token'), $refresh_token, 'a rotated refresh token is stored before the access token is used');

# ... and survives a crash.
$node->stop('immediate');
$sandbox->clear_faults('caramel');
$node->start;
is(option('refresh_token'), $refresh_token, 'the rotated refresh token is durable');
arrive('after the crash the call is repeated');
is(scalar(grep { $_->{path} =~ /token/ } @{ $sandbox->journal('caramel') }), 1, 'no other token is requested');

# A crash between storing a token and its first use, when nothing else would have made it durable.
my $past = $sandbox->call('GET', 'clock')->{now};
requests();
alter_mapping(sprintf(q{SET token_refreshed_at '%.0f', DROP token_expires_at}, $past - 3001));
wait_for('a token that nobody waits for', sub { option('refresh_token') ne $refresh_token });
$node->stop('immediate');
$node->start;
is(option('refresh_token'), issued(), 'a stored but unused token survives a crash');
alter_mapping(q{SET access_token 'revoked'});
send_contact();
arrive('the stored token can be used');
is(requests(), 'token 200 mcp 401 token 200 mcp 200', 'another token can be obtained with it');

# A token is renewed after 50 minutes: by default, and if it lives an hour; earlier if it lives for a shorter time.
alter_mapping(sprintf(q{SET access_token 'caramel_sandbox', SET token_refreshed_at '%.0f', DROP token_expires_at}, $past - 2000));
send_contact();
arrive('a token that is some minutes old');
is(requests(), 'mcp 200', 'a token that is some minutes old is used unchanged');
alter_mapping(sprintf(q{SET token_refreshed_at '%.0f'}, $past - 3001));
wait_for('the token to be renewed', sub { option('access_token') ne 'caramel_sandbox' });
is(requests(), 'token 200', 'a token that is 50 minutes old is renewed, even if there is nothing to send');
alter_mapping(sprintf(q{SET access_token 'caramel_sandbox', SET token_refreshed_at '%.0f', SET token_expires_at '%.0f'}, $past - 1600, $past + 200));
wait_for('the token to be renewed', sub { option('access_token') ne 'caramel_sandbox' });
is(requests(), 'token 200', 'so is one that is 27 minutes old and lives for 30 minutes');

# The provider may refuse a token with a JSON-RPC error in a 200.
$sandbox->config('caramel', { errors => 'tool' });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
arrive('a token that is refused with -32001');
is(requests(), 'mcp 200 token 200 mcp 200', 'a token that is refused with -32001 is renewed once');
$sandbox->config('caramel', { errors => 'http' });

# If a fresh token is refused too, it is not renewed again.
$sandbox->fault('caramel', { match => { path => '/mcp' }, times => undef, action => { status => 401 } });
send_contact();
halted(qr/^unauthorized: Caramel does not accept the access token/, 'a fresh token that is refused');
is(requests(), 'mcp 401 token 200 mcp 401', 'a fresh token is not renewed again');
$sandbox->clear_faults('caramel');
alter_mapping(q{SET access_token 'caramel_sandbox'});
arrive('setting a token resumes delivery');
requests();

# The answer with the new token is lost: only signing in again helps, and the reason says so.
$sandbox->fault('caramel', { match => { path => '/token' }, effect => 'after', action => { reset => 'before' } });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
halted(qr/invalid_grant.*; sign in again and set access_token and refresh_token of the user mapping/, 'a rotation that is lost');
is(requests(), 'mcp 401 token 200 token 400', 'the token is requested once more');
$sandbox->config('caramel', { refresh_tokens => { rt_anew => {} } });
alter_mapping(q{SET refresh_token 'rt_anew'});
arrive('signing in again resumes delivery');
requests();

# A token endpoint that fails temporarily is retried; if it does not exist, the option is wrong.
$sandbox->fault('caramel', { match => { path => '/token' }, times => 2, action => { status => 503, retry_after => 0 } });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
arrive('a token endpoint that fails');
is(requests(), 'mcp 401 token 503 token 503 token 200 mcp 200', 'a failing token endpoint is retried');
$sandbox->fault('caramel', { match => { path => '/token' }, times => undef, action => { status => 404, body => 'Not found' } });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
halted(qr/^wrong_url: HTTP status 404 from token_url/, 'a token endpoint that is not there');
$sandbox->clear_faults('caramel');
sql(q{ALTER SERVER caramel OPTIONS (SET pace '400')});
arrive('correcting the option resumes delivery');
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/eyJ_|\brt_|revoked/, 'the log contains no token');

done_testing();
