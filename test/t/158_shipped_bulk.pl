# Many contacts, by each shipped definition of a service that takes several a call, or one call for each: all arrive, once, and so do
# their changes. SHIPPED_ROWS=100000 test/run.sh 158 is the long form.

use strict;
use warnings;

use JSON::PP;
use Shipped;
use Test::More;

my $rows = $ENV{SHIPPED_ROWS} // 1000;
my %of = (
	webhook => { config => { secret => 'shh' }, options => '', base => 'webhook/webhook', secret => "signing_secret 'shh'" },
	mailchimp => { config => { keys => { 'key-us1' => {} }, lists => { abc => {} } }, options => "data_center 'us1', list_id 'abc'", base => 'mailchimp/3.0', secret => "api_key 'key-us1'" },
	brevo => { config => { keys => { key => {} }, limits => { contacts => undef } }, options => "list_id '2'", base => 'brevo/v3', secret => "api_key 'key'" },
	hubspot => { config => { keys => { pat => {} }, limits => { app => undef } }, options => "subscription_id '7'", base => 'hubspot', secret => "api_key 'pat'" },
	klaviyo => { config => { keys => { pk => {} }, lists => { L1 => { double => JSON::PP::false } }, limits => { calls => undef } }, options => "list_id 'L1'", base => 'klaviyo', secret => "api_key 'pk'" },
	customerio => { config => { keys => { 'site:secret' => {} }, limits => { workspace => undef } }, options => '', base => 'customerio/api/v2', secret => "username 'site', password 'secret'" });

start_shipped(sort keys %of);
foreach my $name (sort keys %of)
{
	my $its = $of{$name};
	my $url = $sandbox->url . "/$its->{base}";

	$sandbox->config($name, { account => $name, %{ $its->{config} } });
	create($name, join(', ', grep { $_ } "base_url '$url', bulk_guard '0', concurrency '8'", $its->{options}), $its->{secret});
	app(qq{CREATE TABLE $name (id int PRIMARY KEY, email text, name text, wants boolean);
		SELECT contactsync_watch('$name', '$name', '{"email": "email", "first_name": "name", "opt_in": "wants"}')});
	settle($name, qq{INSERT INTO $name SELECT n, format('c%s\@example.com', n), 'C' || n, true FROM generate_series(1, $rows) n});
	my $first = $sandbox->count($name, account => $name)->{requests};
	is(app(qq{SELECT count(*) FROM contactsync.failures WHERE server = '$name'}), '0', "$name: nothing fails");
	my %reach = %{ mailable($name, $name) };
	is(scalar(keys %reach), $rows, "$name: all arrive");
	is((scalar grep { $_ eq 'mailable' } values %reach), $rows, "$name: with their consent");
	settle($name, qq{UPDATE $name SET name = 'D' || id});
	my $text = encode_json($sandbox->contacts($name, account => $name));
	my %names = map { $_ => 1 } $text =~ /"D(\d+)"/g;
	is(scalar(keys %names), $rows, "$name: so do their changes");
	is(resubscribed($name, $name), 0, "$name: which subscribe nobody again");
	note("$name: $rows new contacts by $first calls, as many changed ones by " . ($sandbox->count($name, account => $name)->{requests} - $first));
}
done_testing();
