# A refresh token is worth one use. So the one that replaces it is on disk before anything else is done, and where it is
# lost all the same, or no token helps, a person is asked for and nothing is burned.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();

# Nothing gets to disk by itself: what survives was made to.
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

# An option of the user mapping, or ''.
sub option
{
	my ($name) = @_;
	return sql(qq{SELECT option_value FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE option_name = '$name'});
}

# The refresh token that Caramel takes next.
sub issued { return (grep { $_->{kind} eq 'TOKEN_REFRESHED' } @{ $sandbox->events('caramel') })[-1]{refresh_token}; }

my $seen = 0;

# The requests since the last question: what for, and the status.
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
	like(sql('SELECT reason FROM contactsync.status'), $reason, "$title: halted, with the reason");
	is(sql('SELECT backlog, failures FROM contactsync.status'), '1|0', "$title: the contact waits");
	return;
}

# Stored before it is used: while the first call with the new token is on its way the new refresh token is there, ...
$sandbox->fault('caramel', { match => { path => '/mcp' }, action => { stall => \1 } });
send_contact();
$sandbox->wait_for_journal('caramel', sub { grep { $_->{path} =~ /mcp/ && $_->{in_flight} } @_ });
my $refresh_token = issued();
is(option('refresh_token'), $refresh_token, 'a rotated refresh token is stored before the access token is used');

# ... and after a crash it is, too.
$node->stop('immediate');
$sandbox->clear_faults('caramel');
$node->start;
is(option('refresh_token'), $refresh_token, 'durably');
arrive('so that a crash costs a repetition');
is(scalar(grep { $_->{path} =~ /token/ } @{ $sandbox->journal('caramel') }), 1, 'and no other token');

# A crash between the storing and the first use, with nothing else that would have made it durable.
my $past = $sandbox->call('GET', 'clock')->{now};
requests();
alter_mapping(sprintf(q{SET token_refreshed_at '%.0f', DROP token_expires_at}, $past - 3001));
wait_for('a token that nobody waits for', sub { option('refresh_token') ne $refresh_token });
$node->stop('immediate');
$node->start;
is(option('refresh_token'), issued(), 'a token that was stored and not used survives a crash');
alter_mapping(q{SET access_token 'revoked'});
send_contact();
arrive('and can be used');
is(requests(), 'token 200 mcp 401 token 200 mcp 200', 'to get another one');

# 50 minutes: by default, and of a token that lives an hour; less of one that lives less.
alter_mapping(sprintf(q{SET access_token 'caramel_sandbox', SET token_refreshed_at '%.0f', DROP token_expires_at}, $past - 2000));
send_contact();
arrive('a token of some minutes');
is(requests(), 'mcp 200', 'is used as it is');
alter_mapping(sprintf(q{SET token_refreshed_at '%.0f'}, $past - 3001));
wait_for('the token to be renewed', sub { option('access_token') ne 'caramel_sandbox' });
is(requests(), 'token 200', 'one of 50 minutes is renewed, with nothing to send');
alter_mapping(sprintf(q{SET access_token 'caramel_sandbox', SET token_refreshed_at '%.0f', SET token_expires_at '%.0f'}, $past - 1600, $past + 200));
wait_for('the token to be renewed', sub { option('access_token') ne 'caramel_sandbox' });
is(requests(), 'token 200', 'so is one of 27 minutes that lives for 30');

# The provider may refuse a token in the words of JSON-RPC, under a 200.
$sandbox->config('caramel', { errors => 'tool' });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
arrive('a token that is refused with -32001');
is(requests(), 'mcp 200 token 200 mcp 200', 'is renewed once as well');
$sandbox->config('caramel', { errors => 'http' });

# A fresh token is refused too: once is enough.
$sandbox->fault('caramel', { match => { path => '/mcp' }, times => undef, action => { status => 401 } });
send_contact();
halted(qr/^unauthorized: Caramel does not accept the access token/, 'a fresh token that is refused');
is(requests(), 'mcp 401 token 200 mcp 401', 'and it is not renewed again and again');
$sandbox->clear_faults('caramel');
alter_mapping(q{SET access_token 'caramel_sandbox'});
arrive('setting a token resumes it');
requests();

# The answer with the new token is lost on its way: only signing in again helps, and that is what the reason says.
$sandbox->fault('caramel', { match => { path => '/token' }, effect => 'after', action => { reset => 'before' } });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
halted(qr/invalid_grant.*; sign in again and set access_token and refresh_token of the user mapping/, 'a rotation that is lost');
is(requests(), 'mcp 401 token 200 token 400', 'after it was asked for once more');
$sandbox->config('caramel', { refresh_tokens => { rt_anew => {} } });
alter_mapping(q{SET refresh_token 'rt_anew'});
arrive('signing in anew resumes it');
requests();

# A token endpoint that fails for a while is waited for; one that is not there is a fault of the option.
$sandbox->fault('caramel', { match => { path => '/token' }, times => 2, action => { status => 503, retry_after => 0 } });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
arrive('a token endpoint that fails');
is(requests(), 'mcp 401 token 503 token 503 token 200 mcp 200', 'is asked again');
$sandbox->fault('caramel', { match => { path => '/token' }, times => undef, action => { status => 404, body => 'Not found' } });
alter_mapping(q{SET access_token 'revoked'});
send_contact();
halted(qr/^wrong_url: HTTP status 404 from token_url/, 'a token endpoint that is not there');
$sandbox->clear_faults('caramel');
sql(q{ALTER SERVER caramel OPTIONS (SET pace '400')});
arrive('mending the options resumes it');
is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'nobody failed');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/eyJ_|\brt_|revoked/, 'no token is in the log');

done_testing();
