# Where servers may connect to is decided by the address of each connection: that of a name, of a proxy, and of a connection
# that another server has opened. sql/network has the classes of addresses.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.allowed_networks' => '', 'contactsync.probe_interval' => '2s');
my %unlimited = (pace => 1000, burst => 1000);
my $sent = 0;

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub status { return sql(qq{SELECT $_[1] FROM contactsync.status WHERE server = '$_[0]'}); }

sub connections { return $_[0]->count('mailingcore')->{connections}; }

# Send a contact to a server, as the role shop, and return its address.
sub send_contact
{
	my ($server) = @_;
	my $email = "$server-" . ++$sent . '@example.com';

	$node->safe_psql('postgres', qq{SELECT contactsync_upsert('$server', '{"email": "$email"}')}, extra_params => [ '-U', 'shop' ]);
	return $email;
}

sub arrives
{
	my ($where, $email, $title) = @_;

	wait_for("$email at the provider", sub { grep { $_->{email} eq $email } @{ $where->contacts('mailingcore') } });
	pass($title);
	return;
}

sub wait_for_state
{
	my ($server, $state) = @_;

	$node->poll_query_until('postgres', qq{SELECT state = '$state' FROM contactsync.status WHERE server = '$server'})
	  or die "timed out waiting for $server to be $state";
	return;
}

# Type the statements that the hint of a server shows.
sub type_hint
{
	my ($server) = @_;
	my $hint = status($server, 'hint');

	like($hint, qr/ALTER SYSTEM .*; SELECT pg_reload_conf\(\)\.$/, "$server: the hint says what to type");
	sql($_) foreach $hint =~ /(ALTER SYSTEM [^;]+);/, 'SELECT pg_reload_conf()';
	return;
}

sub allow
{
	sql(qq{ALTER SYSTEM SET contactsync.allowed_networks = '$_[0]'});
	sql('SELECT pg_reload_conf()');
	return;
}

sql('CREATE EXTENSION contactsync; CREATE ROLE shop LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO shop');

# a name that has an address of this machine
(my $url = $sandbox->url . '/mailingcore') =~ s/127\.0\.0\.1/localhost/;
create_server($node, $sandbox, 'mailingcore', name => 'name', role => 'shop', server => { base_url => $url, %unlimited });
my $email = send_contact('name');
wait_for_state('name', 'halted');
like(status('name', 'reason'), qr{^network_not_allowed: addresses are not public, and not in contactsync\.allowed_networks: .*\b127\.0\.0\.1/32}, 'a name is judged by its addresses');
is(connections($sandbox), 0, 'nothing was connected to');
is(status('name', 'backlog') . '|' . sql('SELECT count(*) FROM contactsync.failures'), '1|0', 'the contact waits');
type_hint('name');
arrives($sandbox, $email, 'what the hint says has it sent');

# notations that only the resolver takes for an address, with a certificate that would be refused later
my $tls = start_sandbox(tls => 1);
allow('');
foreach my $host ('127.1', '2130706433', '0x7f.1', '017700000001')
{
	(my $odd = $tls->url . '/mailingcore') =~ s/127\.0\.0\.1/$host/;
	create_server($node, $tls, 'mailingcore', name => "at-$host", role => 'shop', server => { base_url => $odd, ca_file => undef, %unlimited });
	send_contact("at-$host");
	wait_for_state("at-$host", 'halted');
	is(status("at-$host", 'reason'), 'network_not_allowed: addresses are not public, and not in contactsync.allowed_networks: 127.0.0.1/32', "$host is judged by its address");
}
is(connections($tls), 0, 'nothing was connected to');

# a proxy
(my $proxy = $tls->url) =~ s/127\.0\.0\.1/localhost/;
create_server($node, $tls, 'mailingcore', name => 'proxied', role => 'shop', server => { base_url => 'https://api.example.com', proxy => $proxy, ca_file => undef, %unlimited });
send_contact('proxied');
wait_for_state('proxied', 'halted');
like(status('proxied', 'reason'), qr{^network_not_allowed: .*\b127\.0\.0\.1/32}, 'a proxy is judged by its address');
is(connections($tls), 0, 'nothing was connected to');

# a connection that a superuser's server has opened, which may connect to any address
create_server($node, $sandbox, 'mailingcore', name => 'super', server => { base_url => $url, %unlimited });
sql(qq{SELECT contactsync_upsert('super', '{"email": "super-$_\@example.com"}')}) foreach 1, 2;
arrives($sandbox, "super-$_\@example.com", 'a server of a superuser connects to any address') foreach 1, 2;
my $before = connections($sandbox);
$email = send_contact('name');
wait_for_state('name', 'halted');
like(status('name', 'reason'), qr/^network_not_allowed: /, 'a connection that is open is judged, too');
sql(q{SELECT contactsync_upsert('super', '{"email": "super-3@example.com"}')});
arrives($sandbox, 'super-3@example.com', 'the server of the superuser goes on');
ok(!(grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore') }), 'the other one sent nothing on it');

# who owns the server counts, and whether that role is a superuser
sql('ALTER ROLE shop SUPERUSER');
arrives($sandbox, $email, 'a role that becomes a superuser may connect');
sql('ALTER ROLE shop NOSUPERUSER');
send_contact('name');
wait_for_state('name', 'halted');
pass('a role that is no superuser any more may not');
sql('ALTER SERVER name OWNER TO postgres; GRANT USAGE ON FOREIGN SERVER name TO shop');
wait_for_state('name', 'idle');
pass('whoever uses the server of a superuser may');

# an address in the option itself
create_server($node, $sandbox, 'mailingcore', name => 'address', role => 'shop', server => {%unlimited});
my ($result, undef, $error) = $node->psql('postgres', q{SELECT contactsync_upsert('address', '{"email": "a@example.com"}')}, extra_params => [ '-U', 'shop' ]);
like($error, qr{option "base_url" of server "address" has an address that is not public, .*: 127\.0\.0\.1/32.*HINT: .*ALTER SYSTEM SET contactsync\.allowed_networks = '127\.0\.0\.1/32'; SELECT pg_reload_conf\(\)}s,
	'an address in an option is refused at once');
allow('127.0.0.0/8');
$email = send_contact('address');
arrives($sandbox, $email, 'and sent to when it is allowed');
allow('');
wait_for_state('address', 'halted');
like(status('address', 'reason'), qr/^configuration: option "base_url" of server "address" has an address that is not public/, 'when it is not allowed any more, the server halts');
type_hint('address');
wait_for_state('address', 'idle');
pass('what the hint says ends that');

# a request of a session
allow('');
(undef, undef, $error) = $node->psql('postgres', q{SELECT contactsync_pull('address')}, extra_params => [ '-U', 'shop' ]);
like($error, qr/not in contactsync\.allowed_networks/, 'a session may not connect either');
sql(qq{ALTER SERVER address OPTIONS (SET base_url '$url')});
(undef, undef, $error) = $node->psql('postgres', q{SELECT contactsync_pull('address')}, extra_params => [ '-U', 'shop' ]);
like($error, qr{addresses are not public, and not in contactsync\.allowed_networks: .*\b127\.0\.0\.1/32}, 'whatever the name');

$node->stop;
done_testing();
