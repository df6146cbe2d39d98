# Where a service's documents are silent, or an answer does not show what became of a contact, nobody may be mailed because of
# it: shipped definitions at sandboxes that are set to what is worst.

use strict;
use warnings;

use JSON::PP;
use Shipped;
use Test::More;

start_shipped(qw(activecampaign customerio));
my $url = $sandbox->url;

# ActiveCampaign could list active contacts only unless it is told otherwise; who has left is found nevertheless
$sandbox->config('activecampaign', { account => 'activecampaign', keys => { ac_key => {} }, limits => { account => undef }, default_status => '1' });
create('activecampaign', "base_url '$url/activecampaign/api/3', account_name 'acme', list_id '2'", "api_key 'ac_key'");
$sandbox->call('POST', 'activecampaign/contacts', { account => 'activecampaign', contacts => [ { email => 'left@example.com', lists => { 2 => 1 } } ] });
$sandbox->call('POST', 'activecampaign/people', { account => 'activecampaign', email => 'left@example.com', act => 'opt_out' });
people('activecampaign', '{"email": "email", "opt_in": "wants"}');
is(mailable('activecampaign', 'activecampaign')->{'left@example.com'}, '-', 'activecampaign: who left is not taken for new');
is(app(q{SELECT count(*) FROM contactsync_verify('activecampaign') WHERE result NOT IN ('ok', 'differs')}), '0', 'activecampaign: contacts are read back, whatever their status is');

# Customer.io accepts an address that another person has, and does not set it
$sandbox->config('customerio', { account => 'customerio', keys => { 'site:secret' => {} }, limits => { workspace => undef } });
create('customerio', "base_url '$url/customerio/api/v2'", "username 'site', password 'secret'");
people('customerio', '{"email": "email", "external_id": "id", "opt_in": "wants"}');
is(mailable('customerio', 'customerio')->{'yes@example.com'}, 'mailable', 'customerio: a person');
settle('customerio', q{UPDATE customerio SET wants = false WHERE id = 1});
is(mailable('customerio', 'customerio')->{'yes@example.com'}, '-', 'customerio: who withdraws');
settle('customerio', q{INSERT INTO customerio VALUES (11, 'yes@example.com', 'Again', NULL, NULL)});
settle('customerio', q{UPDATE customerio SET wants = true WHERE id = 11});
is_deeply([ map { $_->{email} } grep { ($_->{id} // '') eq '11' } @{ $sandbox->contacts('customerio', account => 'customerio') } ], [undef], 'customerio: another row of the address is a person without one');
is(mailable('customerio', 'customerio')->{'yes@example.com'}, 'mailable', 'customerio: its word reaches the person who has the address');
settle('customerio', q{UPDATE customerio SET wants = false WHERE id = 11});
is(mailable('customerio', 'customerio')->{'yes@example.com'}, '-', 'customerio: so does its withdrawal');

done_testing();
