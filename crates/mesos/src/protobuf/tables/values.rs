//! Ids, times, labels and the values that resources and attributes are made of.

use super::*;

messages! {
    FRAMEWORK_ID {
        1 value: string;
    }
    OFFER_ID {
        1 value: string;
    }
    AGENT_ID {
        1 value: string;
    }
    TASK_ID {
        1 value: string;
    }
    EXECUTOR_ID {
        1 value: string;
    }
    CONTAINER_ID {
        1 value: string;
        2 parent: message CONTAINER_ID;
    }
    RESOURCE_PROVIDER_ID {
        1 value: string;
    }
    OPERATION_ID {
        1 value: string;
    }
    TIME_INFO {
        1 nanoseconds: int64;
    }
    DURATION_INFO {
        1 nanoseconds: int64;
    }
    UNAVAILABILITY {
        1 start: message TIME_INFO;
        2 duration: message DURATION_INFO;
    }
    VALUE_SCALAR {
        1 value: double;
    }
    VALUE_RANGE {
        1 begin: uint64;
        2 end: uint64;
    }
    VALUE_RANGES {
        1 range: many message VALUE_RANGE;
    }
    VALUE_SET {
        1 item: many string;
    }
    VALUE_TEXT {
        1 value: string;
    }
    ATTRIBUTE {
        1 name: string;
        2 type: enum VALUE_TYPE;
        3 scalar: message VALUE_SCALAR;
        4 ranges: message VALUE_RANGES;
        5 text: message VALUE_TEXT;
        6 set: message VALUE_SET;
    }
    UUID {
        1 value: bytes;
    }
    PARAMETER {
        1 key: string;
        2 value: string;
    }
    PARAMETERS {
        1 parameter: many message PARAMETER;
    }
    LABELS {
        1 labels: many message LABEL;
    }
    LABEL {
        1 key: string;
        2 value: string;
    }
    PORT {
        1 number: uint32;
        2 name: string;
        3 protocol: string;
        4 visibility: enum DISCOVERY_INFO_VISIBILITY;
        5 labels: message LABELS;
    }
    PORTS {
        1 ports: many message PORT;
    }
    DISCOVERY_INFO {
        1 visibility: enum DISCOVERY_INFO_VISIBILITY;
        2 name: string;
        3 environment: string;
        4 location: string;
        5 version: string;
        6 ports: message PORTS;
        7 labels: message LABELS;
    }
}

enums! {
    VALUE_TYPE {
        SCALAR = 0;
        RANGES = 1;
        SET = 2;
        TEXT = 3;
    }
    DISCOVERY_INFO_VISIBILITY {
        FRAMEWORK = 0;
        CLUSTER = 1;
        EXTERNAL = 2;
    }
}
