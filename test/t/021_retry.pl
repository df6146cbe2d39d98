# Whatever happens to a call on its way to the provider or back, it is repeated, and no contact fails.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 10);

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

# faults, and the error in the call log for each
my @cases = (
	[ 'HTTP status 500', { status => 500 }, qr/^HTTP status 500/ ],
	[ 'HTTP status 503', { status => 503 }, qr/^HTTP status 503/ ],
	[ 'HTTP status 408', { status => 408 }, qr/^HTTP status 408/ ],
	[ 'a gateway that shows a web page', { status => 502, html => \1 }, qr/^HTTP status 502/ ],
	[ 'a status of 503 that says when', { status => 503, retry_after => 2 }, qr/^HTTP status 503/ ],
	[ 'a body without end', { huge => 9_000_000 }, qr/^no answer: answer larger than 8 MB/ ],
	[ 'a reset before the answer', { reset => 'before' }, qr/^no answer: / ],
	[ 'a reset in the middle of the answer', { reset => 'inside' }, qr/^no answer: / ],
	[ 'an answer that breaks off', { truncate => \1 }, qr/^no answer: / ],
	[ 'invalid JSON', { invalid_json => \1 }, qr/^\w+ answered with status 200 and a body that is not understood/ ],
	[ 'another document', { body => '[1, 2]' }, qr/^\w+ answered with status 200 and a body that is not understood/ ],
	[ 'nothing', { body => '' }, qr/^\w+ answered with status 200 and no body/ ]);
my @timeouts = (
	[ 'a time-out', { stall => \1 }, qr/^no answer: .*timed out/i ],
	[ 'a time-out in the middle of the answer', { stall => \1, stall_at => 'inside' }, qr/^no answer: .*timed out/i ]);

# Use one account for each fault, because a fault delays its whole account.
my @accounts;

foreach my $provider ('mailingcore', 'campaignlark')
{
	foreach my $effect ('before', 'after')
	{
		my $name = "${provider}_$effect";

		push @accounts, { name => $name, provider => $provider, effect => $effect };
		create_server($node, $sandbox, $provider, account => $name, role => 'shop', server => { pace => 1000, burst => 1000 });
		sql(qq{
			CREATE TABLE $name (email text PRIMARY KEY, consent boolean NOT NULL DEFAULT false);
			SELECT contactsync_watch('$name', '$name', '{"email": "email", "opt_in": "consent"}');
		});
	}
}

sub on_each { my ($sql) = @_; return join(';', map { $sql =~ s/NAME/$_->{name}/gr } @accounts); }

sub try_case
{
	my ($i, $title, $action, $error) = @_;

	$sandbox->fault($_->{provider}, { match => { account => $_->{name} }, times => 2, effect => $_->{effect}, action => $action })
	  foreach @accounts;
	sql(on_each("INSERT INTO NAME VALUES ('c$i\@example.com')"));
	my @errors = split(
		/\n/,
		sql(on_each("CALL contactsync_wait('NAME')") . ';'
			  . on_each(q{SELECT error FROM contactsync.calls WHERE server = 'NAME' AND verdict = 'retry' ORDER BY id DESC LIMIT 1})));

	foreach my $account (@accounts)
	{
		my @contacts = @{ $sandbox->contacts($account->{provider}, account => $account->{name}) };

		is( scalar(grep { ($_->{email} // $_->{email_address}) eq "c$i\@example.com" } @contacts),
			1, "$account->{provider}, $account->{effect} it was stored: $title");
		like(shift @errors, $error, 'the call log contains the error');
	}
	return;
}

try_case($_, @{ $cases[$_] }) foreach 0 .. $#cases;
cmp_ok(
	sql(q{SELECT max(n) FROM (SELECT count(*) AS n FROM contactsync.calls WHERE verdict = 'retry' GROUP BY server) c}),
	'<=', 2 * @cases, 'no call is repeated more often than necessary');
sql(on_each(q{ALTER SERVER NAME OPTIONS (ADD timeout '3s')}));
try_case(@cases + $_, @{ $timeouts[$_] }) foreach 0 .. $#timeouts;

is(sql('SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');
is(sql(q{SELECT string_agg(DISTINCT state || COALESCE(reason, ''), ',') FROM contactsync.status}),
	'idle', 'every server is idle again');
# if the connection is reset after a complete answer, the answer counts
$sandbox->fault('mailingcore', { match => { account => 'mailingcore_after' }, times => undef, effect => 'after', action => { reset => 'after' } });
sql(q{INSERT INTO mailingcore_after VALUES ('late@example.com')});
sql(q{CALL contactsync_wait('mailingcore_after')});
is(sql(q{SELECT failures FROM contactsync.status WHERE server = 'mailingcore_after'}), '0', 'an answer before a reset counts');

$node->stop;
done_testing();
