CALL shop.enrol(1);
